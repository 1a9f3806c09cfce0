"""How many trials a GPU carries: what is made of measured rates and of memory, and what options say of it."""

import pytest

from datasets.common.errors import UserError
from models.memory import Memory
from search.cluster.ray_engine import RayEngine
from search.options.arguments import parse
from search.request import before_trials
from search.request.search_request import SearchRequest
from search.study.config import study_config
from search.training.memory import shares_that_fit
from search.workers.gpu_room import carried, shown

GIB = 2**30


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ({}, 1),
        ({1: 10.0}, 1),
        ({1: 10.0, 2: 19.0}, 2),
        ({1: 10.0, 2: 11.9}, 1),  # less than a fifth more
        ({1: 10.0, 2: 19.0, 4: 35.0, 8: 36.0}, 4),
        ({1: 10.0, 2: 12.0, 4: 14.4, 8: 17.3}, 8),
        ({1: 10.0, 2: 9.0, 4: 35.0}, 1),  # whatever comes after, it was not asked for
    ],
)
def test_as_many_as_gain_enough(rates, expected):
    assert carried(rates) == expected


def test_the_sentence_gives_the_figures():
    assert shown({1: 10.0, 2: 19.04}).endswith(
        "is 2: epochs a second of the first configuration, 1 at once 10.0, 2 at once 19.0."
    )
    assert "could not be measured" in shown({})


@pytest.mark.parametrize(
    ("total_gib", "most", "expected"),
    # 2 GiB and 1 GiB for a whole batch of 10 tokens, of 80 % of a share without 0.75 GiB for the context
    [(4, 8, 1), (8, 8, 1), (9.1, 8, 2), (18.1, 8, 4), (36.1, 8, 8), (36.1, 4, 4), (1000, 8, 8)],
)
def test_largest_runs_pass_whole_batches_through_their_share(total_gib, most, expected):
    memory = Memory(fixed=2 * GIB, per_token=GIB // 10, per_eval_token=0)
    fitting = shares_that_fit(memory, total_bytes=int(total_gib * GIB), longest=5, batch_size=2, most=most)
    assert fitting == expected


def test_what_fits_alone_in_parts_only_is_not_divided_further():
    memory = Memory(fixed=0, per_token=GIB, per_eval_token=0)
    assert shares_that_fit(memory, total_bytes=40 * GIB, longest=10, batch_size=1000, most=8) == 1


def asked(monkeypatch, n_gpus, n_cores, *words):
    monkeypatch.setattr("search.request.inputs.visible_gpus", lambda: tuple(map(str, range(n_gpus))))
    monkeypatch.setattr("search.request.inputs.mig_devices", lambda: ())
    monkeypatch.setattr("search.request.before_trials.usable_cores", lambda: n_cores)
    given = parse(["--task", "synthetic_two_vs_rest", "--model", "cnn", *words])
    fields = {name: getattr(given, name) for name in ("workers", "trials_per_gpu", "n_trials")}
    request = SearchRequest(task="synthetic_two_vs_rest", model="cnn", **fields)
    return before_trials.most_trials_per_gpu(request, study_config(request.words))


@pytest.mark.parametrize(
    ("n_gpus", "words", "expected"),
    [
        (2, ["--trials-per-gpu", "3"], 3),
        (0, ["--trials-per-gpu", "auto", "--workers", "auto"], 1),
        (2, ["--trials-per-gpu", "auto", "--workers", "7"], 4),
        (1, ["--trials-per-gpu", "auto", "--workers", "auto"], 8),
        (4, ["--trials-per-gpu", "auto", "--workers", "auto"], 4),  # a core for each of 16
        (1, ["--trials-per-gpu", "auto", "--workers", "auto", "--n-trials", "3"], 3),
    ],
)
def test_bounds_of_a_measurement(monkeypatch, n_gpus, words, expected):
    assert asked(monkeypatch, n_gpus, 16, *words) == expected


def test_ray_asks_for_a_number():
    request = SearchRequest(task="synthetic_two_vs_rest", model="cnn", trials_per_gpu=None, workers=None)
    with (
        pytest.raises(UserError, match="give a number with --engine ray"),
        RayEngine().opened(request, None, None, None),
    ):
        pass
