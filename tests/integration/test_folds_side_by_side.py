"""Folds that train side by side: the bits, reports and endings of folds that train one after another."""

import contextlib
import errno
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import pytest

import search
import search.training.checkpoint.store
from datasets.common.errors import UserError
from datasets.common.paths import Places
from datasets.splits.prepared import PreparedSplit, load_prepared
from search.config.run_config import RunConfig
from search.machine import own_models
from search.storage.attributes import RESULT, USES
from search.storage.ending import Ending
from search.study.config import study_config
from search.training.checkpoint.files import BEGUN, has_state
from search.training.fit import fit
from search.training.folds.forked import FoldBroke, Forked, ProcessLost, Say, can_fork
from search.training.folds.how_many import folds_at_once, that_fit
from search.training.folds.side_by_side import SideBySide
from search.training.result import LOG, Result
from search.workers.child import prepare_children
from search.workers.jobs import isolated_run
from search.workers.messages import Failure, Value
from tests.helpers import faulty
from tests.helpers.esm_models import add_tiny_backbones, make_places
from tests.helpers.processes import WAIT_S, is_alive

pytestmark = pytest.mark.skipif(not can_fork(), reason="folds train one after another here")

TASK = "synthetic_one_vs_rest"
TINY = {"backbone": "esm2_tiny", "head_width": 8, "head_dropout": 0.3, "warmup_steps": 20}
N_FOLDS, N_EPOCHS = 3, 3


def config(words: str, *, threads: int = 1, n_folds: int = N_FOLDS) -> RunConfig:
    fixed = f"task={TASK} trainer.threads={threads} trainer.accelerator=cpu trainer.max_epochs={N_EPOCHS}"
    folds = f"data.batch_size=16 validation=kfold validation.n_folds={n_folds}"
    run = study_config([*fixed.split(), *folds.split(), *words.split()]).run({})
    return replace(run, model={**run.model, **TINY}) if "model=esm" in words.split() else run


CNN = "model=cnn model.dropout=0.3 logger=none"
SLOW = f"{CNN} trainer.max_epochs=100000"


class Trainer:
    """Trains in folders below one, and remembers what the runs reported and announced."""

    def __init__(self, split: PreparedSplit, places: Places, folder: Path) -> None:
        self.split, self.places, self.folder = split, places, folder
        self.reports: list[tuple[int, int, float | None]] = []
        self.said: list[str] = []

    def __call__(
        self,
        run: RunConfig,
        name: str,
        *,
        cores: int,
        resume: str | None = None,
        on_report: Callable[[int, int], None] = lambda fold, epoch: None,
        **more: Any,
    ) -> Result:
        self.reports, self.said = [], []

        def report(fold: int, epoch: int, value: float | None) -> None:
            self.reports.append((fold, epoch, value))
            on_report(fold, epoch)

        return fit(
            run,
            self.split,
            places=self.places,
            directory=self.folder / name,
            report=report,
            announce=self.said.append,
            cores=cores,
            resume=None if resume is None else self.folder / resume,
            **more,
        )

    def left(self, name: str) -> dict[str, bytes]:
        """Weights, predictions and logs."""
        folder = self.folder / name
        files = (path for path in folder.rglob("*") if path.is_file() and "state" not in path.parts)
        return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture
def train(
    get_split: Callable[[str], PreparedSplit], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Trainer]:
    add_tiny_backbones(monkeypatch)
    before = children_of(os.getpid())  # of other tests
    yield Trainer(get_split(TASK), make_places(tmp_path, "esm2_tiny"), tmp_path)
    assert set(children_of(os.getpid())) <= set(before), "a process that trained is left"


def children_of(pid: int) -> list[int]:
    """The processes that train for a run, first fold first: this one may have a forkserver and a tracker, too.

    The order is that of their beginnings, which is not that of their numbers once those begin again at 1.
    """
    found = []
    for thread in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = list(map(int, thread.read_text().split()))
        except OSError:  # the thread has ended since
            continue
        for child in children:
            with contextlib.suppress(OSError):  # it has ended since
                is_other = pid == os.getpid() and b"multiprocessing" in Path(f"/proc/{child}/cmdline").read_bytes()
                if not is_other and is_alive(child):
                    found.append(child)
    return found


def same(one: Result, other: Result) -> bool:
    """Whether two runs found the same; the time that they took is their own."""
    own = {"seconds": 0.0, "cpu_s": None, "peak_memory_bytes": 0, "checkpoints": ()}
    names = [[Path(path).name for path in result.checkpoints] for result in (one, other)]
    return replace(one, **own) == replace(other, **own) and names[0] == names[1]


@pytest.mark.parametrize(
    ("words", "may_be_pruned"),
    [
        ("model=cnn model.dropout=0.3", False),
        ("model=cnn model.dropout=0.3", True),
        ("model=epistasis model.rank=2 trainer.loss=ranking", True),
        ("model=ridge", False),
        pytest.param("model=forest", False, marks=pytest.mark.slow),
        pytest.param(
            "model=esm model.adaptation=lora model.lora_rank=2 trainer.micro_batch_tokens=300",
            False,
            marks=pytest.mark.slow,
        ),
        ("model=esm model.pooling=attention", False),
    ],
)
def test_bits_and_reports_are_those_of_folds_one_after_another(words: str, may_be_pruned: bool, train: Trainer) -> None:
    run = config(words)
    one_by_one = train(run, "one", cores=1)
    reports, said = train.reports, train.said
    assert one_by_one.ending == "complete"
    at_once = train(run, "several", cores=2, may_be_pruned=may_be_pruned)
    assert same(replace(at_once, n_embedded=one_by_one.n_embedded), one_by_one)
    assert train.reports == reports
    assert train.left("several") == train.left("one")
    assert [sentence for sentence in train.said if "cache" not in sentence] == said or "esm" in words


def test_features_are_computed_once_for_all_folds(train: Trainer) -> None:
    result = train(config("model=esm model.pooling=attention logger=none"), "first", cores=3)
    assert result.n_embedded == len(train.split.target)


def test_what_was_trained_ahead_of_an_end_is_thrown_away(train: Trainer) -> None:
    reported: list[tuple[int, int]] = []
    run = config(CNN, n_folds=4)

    def stopped(name: str, cores: int) -> Result:
        reported.clear()
        return train(
            run,
            name,
            cores=cores,
            on_report=lambda fold, epoch: reported.append((fold, epoch)),
            should_stop=lambda: (1, 1) in reported,
        )

    one_by_one = stopped("one", 1)
    reports = train.reports
    at_once = stopped("several", 4)
    assert (at_once.ending, at_once.reason) == ("stopped", "told to stop")
    assert train.reports == reports
    assert reported[-1] == (1, 1)
    assert same(at_once, one_by_one)
    assert train.left("several").keys() == {"fold0.safetensors"}


def test_an_end_of_a_later_fold_waits_for_its_turn(train: Trainer, tmp_path: Path) -> None:
    diverging = "model=cnn logger=none model.lr_encoder=1e30 model.lr_decoder=1e30 trainer.gradient_clip=null"
    run = config(diverging)
    one_by_one = train(run, "one", cores=1)
    reports = train.reports
    assert one_by_one.ending == "diverged"
    assert same(train(run, "several", cores=3), one_by_one)
    assert train.reports == reports


@pytest.mark.parametrize(
    ("until", "cores_before", "cores_after"),
    [
        ((1, 1), 3, 1),
        *(
            pytest.param(until, *cores, marks=pytest.mark.slow)
            for until in ((0, 1), (1, 1))
            for cores in ((2, 2), (3, 1), (1, 3))
            if (until, cores) != ((1, 1), (3, 1))
        ),
    ],
)
def test_an_interrupted_run_goes_on_to_the_same_bits(
    cores_before: int, cores_after: int, until: tuple[int, int], train: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search.training.checkpoint.store, "MIN_INTERVAL_S", 0.0)
    monkeypatch.setattr(search.training.checkpoint.store, "_MAX_SHARE", float("inf"))
    run = config(f"{CNN} trainer.max_epochs=5", n_folds=4)
    undisturbed = train(run, "undisturbed", cores=1)
    reports = train.reports

    class Killed(Exception):
        pass

    def kill(fold: int, epoch: int) -> None:
        if (fold, epoch) == until:
            raise Killed

    with pytest.raises(Killed):
        train(run, "first", cores=cores_before, on_report=kill)
    assert has_state(train.folder / "first")
    resumed = train(run, "second", cores=cores_after, resume="first")
    assert train.said[0].startswith("The run goes on from its state ")
    assert train.reports == reports
    assert same(resumed, undisturbed)
    assert not (train.folder / "second" / BEGUN).exists()
    kept = {name: content for name, content in train.left("second").items() if "logs" not in name}
    assert kept == train.left("undisturbed")


def test_states_of_folds_ahead_are_kept_and_used(train: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search.training.checkpoint.store, "MIN_INTERVAL_S", 0.0)
    monkeypatch.setattr(search.training.checkpoint.store, "_MAX_SHARE", float("inf"))
    run = config(CNN)
    undisturbed = train(run, "undisturbed", cores=1)

    before = children_of(os.getpid())

    def wait_and_die(fold: int, epoch: int) -> None:
        if (fold, epoch) == (0, 0):  # while we stand still the others train to their ends
            deadline = time.monotonic() + WAIT_S
            while any(map(is_alive, set(children_of(os.getpid())) - set(before))) and time.monotonic() < deadline:
                time.sleep(0.05)
        if (fold, epoch) == (1, 0):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(run, "first", cores=3, on_report=wait_and_die)
    kept = {path.name.partition(".")[0] for path in (train.folder / "first" / "state").iterdir()}
    assert kept >= {"fold1", "fold2", "training"}
    assert same(train(run, "second", cores=3, resume="first"), undisturbed)


def test_a_fold_whose_process_is_killed_ends_the_run_in_its_turn(train: Trainer) -> None:
    before = children_of(os.getpid())

    def kill_one(fold: int, epoch: int) -> None:
        if (fold, epoch) == (0, 2):
            first, _ = (child for child in children_of(os.getpid()) if child not in before)
            os.kill(first, signal.SIGKILL)

    with pytest.raises(ProcessLost, match="of fold 0 ended by signal 9"):
        train(config(SLOW), "run", cores=2, on_report=kill_one)


def test_no_process_goes_on_with_its_parents_program_where_its_output_cannot_be_written(tmp_path: Path) -> None:
    parent, came_back = os.getpid(), tmp_path / "came back"

    def print_to_a_full_disk(say: Say) -> None:
        sys.stdout = sys.stderr = open("/dev/full", "w", encoding="ascii")  # noqa: SIM115  # as long as the process
        print("what is still in a buffer at the end")
        say("done")

    try:
        process = Forked(print_to_a_full_disk)
    finally:
        if os.getpid() != parent:
            came_back.touch()
            os._exit(77)
    assert process.pipe.recv() == "done"
    assert process.wait() == 0
    assert not came_back.exists()


@pytest.mark.skipif(os.getuid() != 0, reason="only root may become a user without processes to spare")
def test_folds_train_in_turn_where_no_process_is_to_be_had(train: Trainer) -> None:
    one_by_one = train(config(CNN), "one", cores=1)  # which imports what the other user may not be able to read

    def train_as_nobody(say: Say) -> None:
        os.setresuid(65534, 65534, 65534)
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
        limited = Trainer(train.split, Places(weights_dir=None, cache_dir=folder / "cache"), folder)
        result = limited(config(CNN), "run", cores=2)
        say((result.ending, result.values, limited.said))

    with tempfile.TemporaryDirectory() as name:  # those of a test are below folders of root's
        folder = Path(name)
        folder.chmod(0o777)
        process = Forked(train_as_nobody)
        ending, values, said = process.pipe.recv()
        assert process.wait() == 0
    assert (ending, values) == (one_by_one.ending, one_by_one.values)
    sentence = "The machine does not hold several folds at once (Resource temporarily unavailable)"
    assert said == [f"{sentence}: they train one after another."]


def lineage(get_split: Callable[[str], PreparedSplit], folder: Path) -> Any:
    prepare_children()
    places = Places(weights_dir=None, cache_dir=folder / "cache")
    return isolated_run(config(SLOW), get_split(TASK).path, places, folder / "run", cores=2)


def folds_of_child(child: Any) -> list[int]:
    """The processes that train, once each of two folds has one."""
    message = None
    while not isinstance(message, Value):
        message = child.next_message(60)
        assert not isinstance(message, Failure), message
    deadline = time.monotonic() + 60
    while len(found := children_of(child._process.pid)) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def test_to_a_trial_it_is_a_crash(get_split: Callable[[str], PreparedSplit], tmp_path: Path) -> None:
    child = lineage(get_split, tmp_path)
    first, second = folds_of_child(child)
    os.kill(first, signal.SIGSEGV)
    message = None
    while not isinstance(message, Failure):
        message = child.next_message(60)
    child.close()
    assert message.kind == "lost"
    said = "the training process of fold 0 ended by signal 11; its output is in"
    assert message.message == f"{said} {tmp_path / 'run' / LOG}"
    assert not is_alive(first)
    assert not is_alive(second)


@pytest.mark.parametrize("how", ["killed", "closed"])
def test_no_process_outlives_the_run(how: str, get_split: Callable[[str], PreparedSplit], tmp_path: Path) -> None:
    child = lineage(get_split, tmp_path)
    folds = folds_of_child(child)
    assert len(folds) == 2
    if how == "killed":
        os.kill(child._process.pid, signal.SIGKILL)
    else:
        child.close()
    deadline = time.monotonic() + 60
    while any(map(is_alive, folds)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_alive, folds))
    if how == "killed":
        message: Any = None
        while not isinstance(message, Failure):
            message = child.next_message(60)
        assert message.kind == "lost"
        child.close()


@pytest.fixture
def faulty_run(tmp_path: Path) -> Iterator[Callable[[str], RunConfig]]:
    models = faulty.make_models(tmp_path / "models")
    own_models.use_folder(models)
    yield lambda mode: config(f"model=faulty model.mode={mode} logger=none")
    own_models.use(None)
    own_models.use_folder(None)


def test_memory_that_runs_out_beside_others_is_no_result(
    faulty_run: Callable[[str], RunConfig], train: Trainer
) -> None:
    run = faulty_run("memory")
    one_by_one, said = train(run, "one", cores=1), train.said
    at_once = train(run, "several", cores=3)
    assert at_once.ending == Ending.OUT_OF_MEMORY
    assert same(at_once, one_by_one)
    assert [sentence for sentence in train.said if not sentence.startswith("The machine does not hold")] == said


@pytest.mark.parametrize(
    ("mode", "words"),
    [("late", "in the second epoch"), ("disk", "No space left on device"), ("quotes", "can't allocate memory")],
)
def test_an_error_in_a_fold_is_the_runs(
    mode: str, words: str, faulty_run: Callable[[str], RunConfig], train: Trainer
) -> None:
    with pytest.raises(FoldBroke, match=words):
        train(faulty_run(mode), mode, cores=3)
    assert not any("memory" in sentence for sentence in train.said)


def test_what_a_model_draws_by_any_library_is_its_folds_and_epochs_own(
    faulty_run: Callable[[str], RunConfig], train: Trainer
) -> None:
    run = faulty_run("draws")
    one_by_one, left = train(run, "one", cores=1), train.left("one")
    assert same(train(run, "several", cores=3), one_by_one)
    assert train.left("several") == left
    assert same(train(replace(run, seed=run.seed + 1), "other", cores=3), one_by_one) is False


def interrupted_on_two_threads(models: Path, split: Path, folder: Path) -> None:
    """To be called in a process that has computed on one thread at most."""
    search.training.checkpoint.store.MIN_INTERVAL_S = 0.0
    search.training.checkpoint.store._MAX_SHARE = float("inf")
    own_models.use_folder(models)
    run = config("model=faulty model.mode=computes logger=none", threads=2)
    train = Trainer(load_prepared(split), Places(weights_dir=None, cache_dir=folder / "cache"), folder)
    undisturbed = train(run, "undisturbed", cores=4)

    def interrupt(fold: int, epoch: int) -> None:
        if (fold, epoch) == (0, 1):
            raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        train(run, "first", cores=4, on_report=interrupt)
    assert has_state(folder / "first")
    assert same(train(run, "second", cores=4, resume="first"), undisturbed)


@pytest.mark.slow
def test_a_run_of_several_threads_goes_on_with_a_model_that_computes_when_it_is_made(
    get_split: Callable[[str], PreparedSplit], tmp_path: Path
) -> None:
    models = faulty.make_models(tmp_path / "models")
    work = partial(interrupted_on_two_threads, models, get_split(TASK).path, tmp_path)
    process = multiprocessing.get_context("spawn").Process(target=work)
    process.start()
    process.join(WAIT_S)
    exit_code = process.exitcode
    process.kill()
    assert exit_code == 0


def test_an_error_of_the_run_s_own_is_not_taken_for_the_end_of_a_fold(
    train: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: SideBySide, number: int) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(SideBySide, "_drop_state", refuse)
    monkeypatch.setattr(search.training.checkpoint.store, "MIN_INTERVAL_S", 0.0)
    monkeypatch.setattr(search.training.checkpoint.store, "_MAX_SHARE", float("inf"))
    with pytest.raises(OSError, match="Read-only"):
        train(config(SLOW), "run", cores=2)


def test_a_config_that_cannot_run_is_refused_in_the_same_sentence(train: Trainer) -> None:
    run = config(f"{CNN} trainer.accelerator=gpu")
    sentences = []
    for cores in (1, 3):
        with pytest.raises(UserError) as refused:
            train(run, f"on {cores}", cores=cores)
        sentences.append(str(refused.value))
    assert sentences[0] == sentences[1]


def test_how_many_train_at_once() -> None:
    def n(words: str, cores: int, n_folds: int = 5, threads: int = 1) -> int:
        return folds_at_once(config(words, threads=threads), n_folds, cores=cores, threads=threads)

    assert [n(CNN, cores) for cores in (1, 2, 4, 64)] == [1, 2, 4, 5]
    assert [n(CNN, 8, threads=threads) for threads in (2, 3, 8)] == [4, 2, 1]
    assert n(CNN, 8, n_folds=1) == 1
    assert [n(f"model={name} logger=none", 8) for name in ("ridge", "kernel", "forest", "epistasis")] == [1, 1, 1, 5]
    watched = config(CNN)
    watching = ({"_target_": "lightning.pytorch.callbacks.Timer", "interval": "epoch", "verbose": False},)
    watched = replace(watched, trainer=replace(watched.trainer, callbacks=watching))
    assert folds_at_once(watched, 5, cores=8, threads=1) == 1
    assert that_fit(2**60) == 1


def test_a_search_of_one_worker_has_the_trials_of_one_core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: dict[int, list[optuna.trial.FrozenTrial]] = {}
    for cores in (1, 2):
        monkeypatch.setattr("os.sched_getaffinity", lambda pid, n=cores: set(range(n)))
        folder = tmp_path / str(cores)
        request = search.SearchRequest(
            task=TASK,
            model="cnn",
            n_trials=4,
            overrides=(
                "trainer.max_epochs=3",
                "validation=kfold",
                "validation.n_folds=3",
                "trainer.threads=1",
                "space.model.channels.high=24",
                "logger=none",
            ),
            quiet=True,
            runs_dir=folder / "runs",
            export_dir=folder / "experiments",
        )
        assert search.run_study(request).exit_status == 0
        found[cores] = search.open_study(f"{TASK}-cnn", runs_dir=folder / "runs").trials
    for one, two in zip(found[1], found[2], strict=True):
        assert (one.state, one.params, one.values) == (two.state, two.params, two.values)
        assert one.intermediate_values == two.intermediate_values
        assert one.user_attrs[RESULT].get("weight_hashes") == two.user_attrs[RESULT].get("weight_hashes")
        assert [trial.user_attrs[USES]["cores"] for trial in (one, two)] == [1, 2]
