"""The precision of frozen features: what is measured for it, and that bfloat16 is another address in the cache."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from datasets.common.errors import UserError
from datasets.common.paths import Places
from datasets.features.cache import FeatureCache
from datasets.features.encoder import Encoder
from datasets.splits.prepared import PreparedSplit, prepare
from datasets.tasks.registry import find_task
from search.config.run_config import RunConfig
from search.storage.rows.checks import STUDY
from search.study.config import study_config
from search.training.precision.chosen import LEAST_SPEED, MOST_LOSS, ChosenPrecision, choose_precision
from search.training.precision.measured import measure_precision
from tests.helpers.checkpoints import use_tiny, write_checkpoint
from tests.helpers.esm_models import make_esm
from tests.helpers.small_study import ABOUT

TASK = "synthetic_one_vs_rest"
CPU = torch.device("cpu")


def encoder(trainer: str, **changes: object) -> Encoder:
    part = make_esm(**changes).frozen_part(Places(weights_dir=None, cache_dir=Path()), trainer, CPU)
    assert part is not None
    return part.encoder


def run(backbone: str = "esm2_tiny", precision: str = "auto", **model: object) -> RunConfig:
    config = study_config([f"task={TASK}", "model=esm", "trainer.threads=1", "validation=holdout"]).run({})
    return replace(
        config, model={**config.model, "backbone": backbone, "head_width": 8, "feature_precision": precision, **model}
    )


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    """With checkpoints of two backbones in the formats of the real ones."""
    use_tiny(monkeypatch, tmp_path)
    for name in ("esm2_tiny", "esm1v_tiny"):
        write_checkpoint(tmp_path / "weights", name)
    return Places(weights_dir=tmp_path / "weights", cache_dir=tmp_path / "cache")


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> PreparedSplit:
    folder = tmp_path_factory.mktemp("split")
    return prepare(find_task(TASK), data_dir=None, cache_dir=folder, announce=lambda sentence: None)


@pytest.fixture
def known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_tiny(monkeypatch, tmp_path)


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize(
    ("precision", "trainer", "keeps"),
    [
        ("trainer", "32-true", torch.float32),
        ("trainer", "bf16-mixed", torch.bfloat16),
        ("32-true", "bf16-mixed", torch.float32),
        ("bf16-mixed", "32-true", torch.float32),
    ],
)
def test_features_are_kept_in_float32_where_their_precision_is_said(
    precision: str, trainer: str, keeps: torch.dtype
) -> None:
    assert encoder(trainer, feature_precision=precision).dtype == keeps


@pytest.mark.usefixtures("known")
def test_each_precision_has_an_address_of_its_own_and_float32_that_of_today(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path / "features", max_bytes=2**20)
    said = {name: cache.folder(encoder("32-true", feature_precision=name)) for name in ("32-true", "bf16-mixed")}
    assert said["32-true"] == cache.folder(encoder("32-true"))  # what was cached before there was the setting
    assert said["bf16-mixed"] not in (said["32-true"], cache.folder(encoder("bf16-mixed")))


@pytest.mark.usefixtures("known")
def test_bfloat16_changes_features_a_little_and_their_rows_do_not_depend_on_each_other() -> None:
    tokens = torch.randint(5, 24, (16, 24), generator=torch.Generator().manual_seed(0))
    full, half = (encoder("32-true", feature_precision=name)(tokens) for name in ("32-true", "bf16-mixed"))
    assert half.dtype == torch.float32
    assert 0 < float((full - half).norm() / full.norm()) < 0.02
    order = torch.randperm(16, generator=torch.Generator().manual_seed(1))
    assert torch.equal(encoder("32-true", feature_precision="bf16-mixed")(tokens[order]), half[order])


@pytest.mark.usefixtures("known")
def test_a_run_without_a_study_has_nobody_to_choose_for_it() -> None:
    with pytest.raises(UserError, match=r"is chosen when a search begins its study, and here is none: use "):
        encoder("32-true", feature_precision="auto")


def test_what_is_measured_is_the_worst_of_the_backbones(places: Places, split: PreparedSplit) -> None:
    def measure(*configs: RunConfig) -> ChosenPrecision | None:
        return measure_precision(configs, split, places=places, announce=print)

    assert measure(run(precision="trainer"), run(precision="32-true")) is None
    assert measure(run(adaptation="lora", lora_rank=2)) is None  # nothing is frozen
    before = torch.get_num_threads()
    both = measure(run(), run("esm1v_tiny"), run(representation_layer=1))
    assert both is not None
    assert torch.get_num_threads() == before
    assert 128 <= both.n_sequences <= 512
    assert both.difference is not None
    assert both.loss is not None
    assert 0 < both.difference < 1
    suits = both.loss <= MOST_LOSS and both.speed >= LEAST_SPEED
    assert (both.precision == "bf16-mixed") == suits


@pytest.mark.parametrize(
    ("speed", "loss", "precision"),
    [
        (LEAST_SPEED, MOST_LOSS, "bf16-mixed"),
        (LEAST_SPEED, -0.2, "bf16-mixed"),
        (LEAST_SPEED - 0.01, 0.0, "32-true"),
        (9.0, MOST_LOSS + 0.001, "32-true"),
        (9.0, None, "32-true"),
    ],
)
def test_bfloat16_is_taken_where_it_is_faster_and_near(speed: float, loss: float | None, precision: str) -> None:
    chosen = choose_precision(backbone="esm2_tiny", n_sequences=200, speed=speed, difference=0.01, loss=loss)
    assert chosen.precision == precision
    assert ("in bfloat16: " if precision == "bf16-mixed" else "in float32: ") in chosen.sentence


@pytest.mark.parametrize(
    "change", [{"precision": "16-mixed"}, {"difference": float("nan")}, {"backbone": "\x1b[31m"}, {"speed": None}, {}]
)
def test_what_a_database_says_of_it_is_checked(change: dict[str, object]) -> None:
    record = choose_precision(backbone="esm2_tiny", n_sequences=64, speed=2.0, difference=0.01, loss=-0.001).record
    problems = list(STUDY["manifest"]("manifest", {**ABOUT, "features": {**record, **change}}))
    assert bool(problems) == bool(change), problems
