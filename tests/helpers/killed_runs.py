"""Runs that are killed again and again: `python killed_runs.py FOLDER SEED N_KILLS` prints two results as JSON lines.

The first is of an undisturbed run. The other is of one whose processes were killed N_KILLS times at random moments and
taken up again each time; states are written after each epoch, slowly, so that many a kill meets one half written.
Processes are forked from this one, which has loaded torch and computes nothing.
"""

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import lightning.pytorch  # noqa: F401

import search.training.checkpoint.store
from datasets.common.paths import Places
from datasets.splits.prepared import prepare
from datasets.tasks.registry import find_task
from search.study.config import study_config
from search.training.checkpoint.files import FOLDER, has_state
from search.training.checkpoint.progress import code_hash
from search.training.fit import fit

TASK = "synthetic_one_vs_rest"
WORDS = [
    f"task={TASK}",
    "model=cnn",
    "validation=holdout",
    "model.dropout=0.3",
    "trainer.threads=1",
    "data.batch_size=32",
    "logger=none",
]


def train(folder: Path, name: str, resume: str | None, moment: random.Random | None, epoch_s: float = 0.0) -> None:
    """The child's work; `moment` slows the writing of states down by random pauses, `epoch_s` each epoch."""
    run = study_config([*WORDS, "trainer.max_epochs=30", "trainer.patience=30", "model.channels=16"]).run({})
    split = prepare(find_task(TASK), data_dir=None, cache_dir=folder / "cache", announce=print)
    if moment is not None:
        search.training.checkpoint.store.MIN_INTERVAL_S, search.training.checkpoint.store._MAX_SHARE = (
            0.0,
            float("inf"),
        )
        for function in ("replace", "link", "unlink"):
            setattr(os, function, _slow(getattr(os, function), moment))

    def announce(sentence: str) -> None:
        with (folder / "said.txt").open("a") as file:
            print(sentence, file=file, flush=True)

    result = fit(
        run,
        split,
        places=Places(weights_dir=None, cache_dir=folder / "cache"),
        directory=folder / name,
        report=lambda *_: time.sleep(epoch_s),
        announce=announce,
        resume=None if resume is None else folder / resume,
    )
    weights = [Path(path).read_bytes().hex() for path in result.checkpoints]
    record = {"values": result.values, "value": result.value, "weights": weights}
    (folder / f"{name}.json").write_text(json.dumps(record))


def _slow(function: Callable[..., Any], moment: random.Random) -> Callable[..., Any]:
    def slow(*args: Any, **kwargs: Any) -> Any:
        time.sleep(moment.uniform(0, 0.005))
        return function(*args, **kwargs)

    return slow


def forked(work: Callable[[], None]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    return pid


def wait_for(path: Path, pid: int) -> None:
    """Wait for a file of a child that may have ended."""
    while not path.exists() and os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        time.sleep(0.005)


def main() -> None:
    """Train undisturbed, train killed, print both."""
    code_hash()  # as search.workers.preload does
    folder, seed, n_kills = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    moment = random.Random(seed)
    assert os.waitpid(forked(lambda: train(folder, "undisturbed", None, None)), 0)[1] == 0
    names = [f"part{number}" for number in range(n_kills + 1)]
    for number, name in enumerate(names):
        left = (before for before in reversed(names[:number]) if has_state(folder / before))
        resume = next(left, None)
        epoch_s = 0.3 if number < 2 else 0.0  # however late the first kills come, they are not too late
        pid = forked(lambda name=name, resume=resume, epoch_s=epoch_s: train(folder, name, resume, moment, epoch_s))  # type: ignore[misc]
        if number < n_kills:
            if number % 4 != 3:  # those die young
                wait_for(folder / name / FOLDER / "manifest.json", pid)
            time.sleep(moment.uniform(0, 0.4))
            os.kill(pid, signal.SIGKILL)
        if os.waitpid(pid, 0)[1] == 0:  # it was quicker, or the last one
            break
    for part in ("undisturbed", name):
        print((folder / f"{part}.json").read_text())


if __name__ == "__main__":
    main()
