"""Frozen features are the encoder's, bit for bit the same however they came about, and computed once."""

import pytest
import torch

from datasets.common.errors import UserError
from datasets.features import sinks as feature_sinks
from datasets.features.frozen import FeatureCache, PooledFeatures
from datasets.features.passes import TOKENS_PER_PASS, pooled
from tests.helpers.feature_builder import CountingEncoder, Rows, features, make_rows

ROOMY = 10**9
SCOPES = ["mean", "region", "tokens"]


@pytest.fixture(autouse=True)
def one_thread():
    """Small products on several threads wait for each other more than they compute."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


@pytest.fixture
def cache(tmp_path):
    return FeatureCache(tmp_path / "fäatures of *all* [trials]", max_bytes=ROOMY)


@pytest.fixture
def uncached(tmp_path):
    return FeatureCache(tmp_path / "nothing", max_bytes=0)


def everything(found, n_rows):
    return found.gather(torch.arange(n_rows))


def expected(encoder, rows, scope):
    """The features of each row, computed alone."""
    states = [encoder.alone(rows.tokens[i, :length].long()) for i, length in enumerate(rows.lengths)]
    if scope == "tokens":
        return torch.nn.utils.rnn.pad_sequence(states, batch_first=True)
    if scope == "mean":
        return torch.stack([state[1:-1].mean(0) for state in states])
    return torch.stack([state[rows.region[i, : len(state)]].mean(0) for i, state in enumerate(states)])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scope", SCOPES)
def test_features_are_those_of_each_sequence_alone(cache, scope, dtype):
    rows = make_rows(40)
    encoder = CountingEncoder(dtype=dtype)
    found = features(encoder, rows, cache, scope)
    torch.testing.assert_close(
        everything(found, 40).float(),
        expected(encoder, rows, scope),
        atol=1e-6 if dtype == torch.float32 else 8e-3,
        rtol=0,
    )
    assert found.gather(torch.tensor([3])).dtype == dtype
    assert (found.values is None) == (scope == "tokens")


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bits_do_not_depend_on_how_features_came_about(cache, uncached, tmp_path, scope, dtype, monkeypatch):
    rows = make_rows(60)
    at_once = everything(features(CountingEncoder(dtype=dtype), rows, cache, scope), 60)
    read = everything(features(CountingEncoder(dtype=dtype), rows, cache, scope), 60)
    on_demand = features(CountingEncoder(dtype=dtype), rows, uncached, scope, announce=lambda sentence: None)
    monkeypatch.setattr(feature_sinks, "SEGMENT_BYTES", 2000)
    in_parts = FeatureCache(tmp_path / "parts", max_bytes=ROOMY)
    for part in ([17], range(10, 30), range(29, -1, -3)):
        features(CountingEncoder(dtype=dtype), rows[list(part)], in_parts, scope)
    rebuilt = everything(features(CountingEncoder(dtype=dtype), rows, in_parts, scope), 60)
    assert torch.equal(at_once, read)
    assert torch.equal(at_once, rebuilt)
    assert torch.equal(at_once, everything(on_demand, 60))
    for i in (0, 31, 59):
        alone = on_demand.gather(torch.tensor([i]))
        assert torch.equal(alone[0], at_once[i, : alone.shape[1]] if scope == "tokens" else at_once[i])


@pytest.mark.parametrize("scope", ["mean", "region"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_pooled_features_come_from_kept_tokens_with_the_same_bits(cache, tmp_path, scope, dtype):
    rows = make_rows(60)
    features(CountingEncoder(dtype=dtype), rows, cache, "tokens", also=())
    derived = features(CountingEncoder(dtype=dtype), rows, cache, scope)
    encoder = CountingEncoder(dtype=dtype)
    direct = features(encoder, rows, FeatureCache(tmp_path / "other", max_bytes=ROOMY), scope)
    assert (derived.n_computed, direct.n_computed) == (0, encoder.n_passes) == (0, 60)
    assert torch.equal(derived.values, direct.values)


def test_the_encoder_sees_shapes_that_follow_from_a_length_alone(uncached):
    rows = make_rows(200)
    encoder = CountingEncoder()
    features(encoder, rows, uncached, "mean", announce=lambda sentence: None)
    assert {shape[1] for shape in encoder.shapes} == {8, 16, 24, 32}
    assert all(shape[0] == TOKENS_PER_PASS // shape[1] for shape in encoder.shapes)
    assert [shape[1] for shape in encoder.shapes] == sorted((shape[1] for shape in encoder.shapes), reverse=True)


@pytest.mark.parametrize("first", SCOPES)
def test_one_pass_serves_all_scopes(cache, first):
    rows = make_rows(50)
    encoder = CountingEncoder()
    n_computed = [
        features(encoder, rows, cache, scope, also=("mean", "region", "tokens") if scope == first else None).n_computed
        for scope in [first, *SCOPES]
    ]
    assert n_computed == [50, 0, 0, 0]
    assert set(encoder.passes.values()) == {1}
    assert len(encoder.passes) == 50


def test_tokens_nobody_asked_for_are_kept_below_a_quarter_of_the_cache(tmp_path):
    rows = make_rows(50)
    n_bytes = sum(rows.lengths) * 16 * 4
    for factor, n_computed in ((5, 0), (3, 50)):
        cache = FeatureCache(tmp_path / str(factor), max_bytes=factor * n_bytes)
        features(CountingEncoder(), rows, cache, "mean")
        assert features(CountingEncoder(), rows, cache, "region").n_computed == 0
        assert features(CountingEncoder(), rows, cache, "tokens").n_computed == n_computed
    # Named ones are kept as long as they fit.
    cache = FeatureCache(tmp_path / "named", max_bytes=3 * n_bytes)
    features(CountingEncoder(), rows, cache, "mean", also=("tokens",))
    assert features(CountingEncoder(), rows, cache, "tokens").n_computed == 0


def test_asked_for_tokens_alone_nothing_else_is_kept(cache):
    encoder = CountingEncoder()
    features(encoder, make_rows(9), cache, "tokens")
    assert not (cache.folder(encoder) / "mean").exists()


def test_each_distinct_sequence_is_computed_once(cache):
    rows = make_rows(30)[[*range(30), 4, 4, *range(20)]]
    encoder = CountingEncoder()
    found = features(encoder, rows, cache, "mean")
    assert found.n_computed == encoder.n_passes == 30
    assert found.values.shape == (52, 16)
    assert torch.equal(found.values[30:], found.values[[4, 4, *range(20)]])
    tokens = features(encoder, rows, cache, "tokens")
    assert torch.equal(tokens.gather(torch.tensor([30, 5]))[0], tokens.gather(torch.tensor([4, 5]))[0])


def test_only_what_another_task_did_not_compute_is_computed(cache):
    rows = make_rows(40)
    features(CountingEncoder(), rows[list(range(25))], cache, "mean")
    encoder, progress = CountingEncoder(), []
    # Another task: another order, another type, another padding.
    other = rows[list(range(39, 9, -1))]
    wider = Rows(*(torch.nn.functional.pad(part, (0, 9)) for part in (other.tokens.int(), other.mask, other.region)))
    found = features(encoder, wider, cache, "mean", on_progress=lambda *done: progress.append(done))
    assert found.n_computed == encoder.n_passes == 15
    assert progress[0] == (15, 30)
    assert progress[-1] == (30, 30)
    assert progress == sorted(progress)
    torch.testing.assert_close(found.values, expected(encoder, other, "mean"), atol=1e-6, rtol=0)


def test_another_region_of_a_sequence_is_another_entry_but_no_other_pass(cache):
    rows = make_rows(12, longest=20)
    rows = rows[[*range(12), *range(12)]]
    rows.region[12:] = torch.roll(rows.region[12:], -1, dims=1)
    encoder = CountingEncoder()
    found = features(encoder, rows, cache, "region")
    assert found.n_computed == encoder.n_passes == 12
    torch.testing.assert_close(found.values, expected(encoder, rows, "region"), atol=1e-6, rtol=0)
    assert not torch.equal(found.values[:12], found.values[12:])
    again = features(encoder, rows, cache, "region")
    assert again.n_computed == 0
    assert torch.equal(again.values, found.values)


@pytest.mark.parametrize(
    "other",
    [
        CountingEncoder(key="another layer"),
        CountingEncoder(dtype=torch.bfloat16),
        CountingEncoder(width=8),
    ],
    ids=["key", "dtype", "width"],
)
def test_another_encoder_shares_nothing(cache, other):
    rows = make_rows(10)
    features(CountingEncoder(), rows, cache, "mean")
    assert features(other, rows, cache, "mean").n_computed == 10


def test_a_sequence_without_region_is_refused_where_the_region_is_asked_for(cache):
    rows = make_rows(10)
    rows.region[7] = False
    rows.region[7, 0] = True  # cls is no residue
    features(CountingEncoder(), rows, cache, "mean")
    with pytest.raises(UserError, match=r"Sequence 7 has no residue in its mutated region.*model\.pooling=mean"):
        features(CountingEncoder(), rows, cache, "region")
    # The others' regions were kept on the way.
    assert features(CountingEncoder(), rows[[0, 1, 2, 3]], cache, "region").n_computed == 0


def test_wrong_shapes_are_refused(cache):
    rows = make_rows(4)
    with pytest.raises(ValueError, match="expected the same"):
        features(CountingEncoder(), Rows(rows.tokens, rows.mask[:3], rows.region), cache, "mean")
    rows.mask[2, 2:] = False
    with pytest.raises(ValueError, match="row 2 has no residue"):
        features(CountingEncoder(), rows, cache, "mean")
    encoder = CountingEncoder()
    encoder.width = 17
    with pytest.raises(ValueError, match="the encoder returned"):
        features(encoder, make_rows(4), cache, "mean")


def test_no_rows_give_no_features(cache):
    empty = make_rows(3)[[]]
    assert features(CountingEncoder(), empty, cache, "mean").values.shape == (0, 16)
    assert features(CountingEncoder(), empty, cache, "tokens").n_computed == 0


@pytest.mark.parametrize("scope", ["mean", "tokens"])
def test_an_encoder_out_of_memory_is_let_out_and_what_was_written_stays(cache, scope, monkeypatch):
    monkeypatch.setattr(feature_sinks, "SEGMENT_BYTES", 1)
    rows = make_rows(300)
    encoder = CountingEncoder()
    encoder.fails_after = 2
    with pytest.raises(MemoryError):
        features(encoder, rows, cache, scope)
    encoder.fails_after = None
    assert 0 < features(encoder, rows, cache, scope).n_computed < 300
    assert set(encoder.passes.values()) == {1}


def test_slow_encoders_lose_little(cache, monkeypatch):
    """After SEGMENT_S what was computed is written, however small it is."""
    monkeypatch.setattr(feature_sinks, "SEGMENT_S", 0.0)
    encoder = CountingEncoder()
    features(encoder, make_rows(300), cache, "mean")
    assert len(list((cache.folder(encoder) / "mean").iterdir())) == len(encoder.shapes) > 3


def test_gathered_tokens_are_padded_with_zeros_to_the_longest_of_the_batch(cache):
    rows = make_rows(20)
    found = features(CountingEncoder(), rows, cache, "tokens")
    picked = torch.tensor([5, 2, 5, 9])
    gathered = found.gather(picked)
    lengths = [rows.lengths[i] for i in picked]
    assert gathered.shape == (4, max(lengths), 16)
    for row, length in zip(gathered, lengths, strict=True):
        assert (row[:length] != 0).any(1).all()
        assert (row[length:] == 0).all()


@pytest.mark.parametrize("kept", [True, False])
def test_tokens_in_memory_of_a_device_are_the_same(cache, uncached, kept):
    rows = make_rows(300)[[*range(300), 3, 3]]
    encoder = CountingEncoder(dtype=torch.bfloat16)
    found = features(encoder, rows, cache if kept else uncached, "tokens", announce=lambda sentence: None)
    resident = found.to("cpu")
    n_passes = encoder.n_passes
    assert resident.n_bytes == found.n_bytes == sum(rows.lengths[:300]) * 16 * 2
    for picked in (torch.tensor([301, 0, 7]), torch.randperm(302), torch.tensor([], dtype=torch.int64)):
        assert torch.equal(resident.gather(picked), found.gather(picked))
    assert n_passes == 300
    assert resident.n_computed == 300


def test_pooled_features_move_to_a_device():
    found = PooledFeatures(values=torch.randn(5, 3), n_computed=2)
    moved = found.to("meta")
    assert moved.values.device.type == "meta"
    assert moved.n_computed == 2
    assert moved.gather(torch.tensor([1, 2])).shape == (2, 3)
    assert torch.equal(found.gather(torch.tensor([4, 4])), found.values[[4, 4]])


@pytest.mark.parametrize("n_columns", [1, 2, 7, 8, 33])
def test_pooling_averages_the_chosen_positions(n_columns):
    states = torch.randn(6, n_columns, 5, dtype=torch.float64).float()
    positions = torch.rand(6, n_columns) < 0.5
    positions[:, 0] = True
    states[~positions] = torch.nan  # not even as zero times NaN
    mean = torch.stack([states[i, positions[i]].double().mean(0) for i in range(6)])
    torch.testing.assert_close(pooled(states, positions).double(), mean, atol=1e-6, rtol=1e-6)


def test_pooling_gives_the_same_bits_alone_and_on_any_number_of_threads():
    states, positions = torch.randn(64, 64, 320), torch.ones(64, 64, dtype=torch.bool)
    together = pooled(states, positions)
    torch.set_num_threads(2)
    assert torch.equal(together, pooled(states, positions))
    assert torch.equal(together[17:18], pooled(states[17:18], positions[17:18]))
