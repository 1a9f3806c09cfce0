"""How many threads a run takes that names none: by its config and its data, on every machine."""

import pytest

from datasets.splits.prepared import PreparedSplit, prepare
from search.config.run_config import RunConfig
from search.machine import hardware
from search.storage.rows.checks import study_problems
from search.study.config import study_config
from search.training.build import build_model
from search.training.threads import MOST_THREADS, threads_of_run, usual_threads

TASK = "synthetic_two_vs_rest"


def run_of(model: str, *words: str) -> RunConfig:
    return study_config([f"task={TASK}", f"model={model}", "validation=holdout", *words]).run({})


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> PreparedSplit:
    task = study_config([f"task={TASK}", "model=ridge"]).find_task()
    return prepare(task, data_dir=None, cache_dir=tmp_path_factory.mktemp("splits"), announce=print)


@pytest.mark.parametrize(
    ("arithmetic", "threads"),
    [(0, 1), (4 * 10**9 - 1, 1), (4 * 10**9, 2), (3 * 10**10, 2), (4 * 10**10, 4), (10**12, 8), (10**30, MOST_THREADS)],
)
def test_the_threads_double_with_the_eightfold_arithmetic(arithmetic: int, threads: int) -> None:
    assert usual_threads(arithmetic) == threads


@pytest.mark.parametrize("model", ["ridge", "kernel", "epistasis", "cnn", "cnn_flip"])
@pytest.mark.parametrize("n_cores", [1, 2, 64])
def test_small_runs_take_one_thread_however_many_cores_there_are(
    split: PreparedSplit, monkeypatch: pytest.MonkeyPatch, model: str, n_cores: int
) -> None:
    monkeypatch.setattr(hardware.os, "sched_getaffinity", lambda pid: set(range(n_cores)))
    words = ["model.channels=96"] if model.startswith("cnn") else []
    assert threads_of_run(run_of(model, *words), split) == 1


def test_large_ones_take_several(split: PreparedSplit) -> None:
    small, large = "model.backbone=esm2_t6_8M_UR50D", "model.backbone=esm2_t33_650M_UR50D"
    untrained = "model.pretrained=false"
    found = [threads_of_run(run_of("esm", untrained, backbone), split) for backbone in (small, large)]
    assert found[0] < found[1] == MOST_THREADS
    wide = run_of("cnn", "model.channels=2048", "model.kernel_size=9", "data.batch_size=256")
    assert threads_of_run(wide, split) > 1
    assert threads_of_run(run_of("cnn", "trainer.threads=3"), split) == 3


@pytest.mark.parametrize(
    ("model", "words", "few", "many"),
    [
        ("kernel", (), 1, 8),
        ("kernel", ("model.max_train=1000",), 1, 1),
        ("forest", (), 1, 8),
        ("forest", ("model.max_train=500",), 1, 1),
        ("ridge", (), 1, 1),  # of 56 positions: the matrix does not grow with the rows
    ],
)
def test_rows_count_where_a_model_is_solved(model: str, words: tuple[str, ...], few: int, many: int) -> None:
    built = build_model(run_of(model, *words))
    of_rows = [usual_threads(built.arithmetic(n, 56, 256)) for n in (400, 16_000, 100_000)]
    assert of_rows[0] == few
    assert max(of_rows) == many
    assert usual_threads(build_model(run_of(model)).arithmetic(100_000, 56, 256)) <= MOST_THREADS


@pytest.mark.parametrize("wrong", [0, -1, 1025, 10**30, 1.5, "2", True])
def test_threads_in_the_database_are_checked(wrong: object) -> None:
    assert not list(study_problems({"threads": 8}, {}))
    assert [key for key, _ in study_problems({"threads": wrong}, {})] == ["threads"]
