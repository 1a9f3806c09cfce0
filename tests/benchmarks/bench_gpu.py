"""What a machine with one GPU does with this program, in less than eight minutes; on CPUs the same at a small size.

    [FLIPSEARCH_DATA=...] python tests/benchmarks/bench_gpu.py

* ESM-2 650M with random weights in bf16: tokens a second against fair-esm's own code, and the share of the measured
  matmul rate (`bench_esm_forward.py`);
* an epoch of `fit` against a bare loop over the same batches, for three sizes of the CNN (`bench_fit.py`);
* trials of small CNNs an hour, with 1, 4 and 8 of them at once on the GPU: real searches, of which each runs for a
  minute. The clock goes from the first trial's beginning to the last one's end.

Each part is a process of its own that is ended when its time is over, and its figures are printed as it ends. Without
a GPU: ESM-2 8M in float32, and searches with 1 and 2 workers. Nothing needs the internet.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from optuna.trial import TrialState

import search
from datasets.common.errors import UserError

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
TASK = "gb1_three_vs_rest" if os.environ.get("FLIPSEARCH_DATA") else "synthetic_two_vs_rest"
STARTS_S = 30.0  # of a search's time, before its first trial and after its last


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The seconds that each part may take, 440 in all with three searches."""

    forward: float = 90.0
    fit: float = 80.0
    search: float = 90.0


def run(words: list[str], limit_s: float, folder: Path) -> str | None:
    """What a process prints; None where it failed or had to be ended, which is printed then, and what it said."""
    process = subprocess.Popen(
        [sys.executable, *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        print(f"  ended after {limit_s:.0f} s, which is all it has", flush=True)
    if process.returncode:
        print(output[-2000:], flush=True)
        return None
    return output


def part(title: str, words: list[str], limit_s: float, folder: Path) -> None:
    """Run a benchmark of its own and print what it prints."""
    print(f"\n{title}", flush=True)
    start = time.monotonic()
    output = run(words, limit_s, folder)
    if output is not None:
        print(re.sub("^", "  ", output.rstrip(), flags=re.M))
    print(f"  ({time.monotonic() - start:.0f} s)", flush=True)


def trials_an_hour(n_at_once: int, limit_s: float, folder: Path, *, on_gpu: bool) -> None:
    """Search for a while with so many trials at once, and print how many an hour there are, and epochs a second."""
    name = f"at-once-{n_at_once}"
    slots = ["--workers", str(n_at_once), *(["--trials-per-gpu", str(n_at_once)] if on_gpu else [])]
    words = [str(ROOT / "run_study.py"), "--task", TASK, "--model", "cnn", "--n-trials", "100000", *slots]
    words += ["--study-name", name, "--timeout", f"{limit_s - STARTS_S:.0f}s", "--quiet"]
    words += ["sampler=random", "pruner=nop", "logger=none", "validation=holdout", "trainer.max_epochs=10"]
    words += [] if on_gpu else ["trainer.threads=1"]
    print(f"\nSmall CNNs, 10 epochs each, {n_at_once} at once, {TASK}", flush=True)
    run(words, limit_s, folder)
    try:
        trials = search.open_study(name, runs_dir=folder / "runs").get_trials(states=[TrialState.COMPLETE])
    except UserError as error:
        print(f"  no study: {error}", flush=True)
        return
    if len(trials) < 2:
        print(f"  {len(trials)} complete trials, too few to say", flush=True)
        return
    start = min(trial.datetime_start for trial in trials if trial.datetime_start)
    end = max(trial.datetime_complete for trial in trials if trial.datetime_complete)
    seconds = (end - start).total_seconds()
    n_epochs = sum(len(fold) for trial in trials for fold in trial.user_attrs["result"]["values"])
    print(
        f"  {len(trials)} trials in {seconds:.0f} s: {3600 * len(trials) / seconds:,.0f} an hour, "
        f"{n_epochs / seconds:.1f} epochs a second",
        flush=True,
    )


def main() -> None:
    on_gpu = torch.cuda.is_available()
    limits, began = Limits(), time.monotonic()
    where = torch.cuda.get_device_name() if on_gpu else f"no GPU, so at a small size: {os.cpu_count()} CPU cores"
    print(f"torch {torch.__version__}, {where}", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small = [] if on_gpu else ["--batch", "4", "--length", "64", "--rounds", "2"]
        part("ESM-2's forward pass", [str(HERE / "bench_esm_forward.py"), *small], limits.forward, folder)
        fit = ["--pairs", "2", "--epochs", "20", "--threads", "1", "--device", "cuda" if on_gpu else "cpu"]
        part("fit over a bare loop", [str(HERE / "bench_fit.py"), *fit], limits.fit, folder)
        for n_at_once in (1, 4, 8) if on_gpu else (1, 2):
            trials_an_hour(n_at_once, limits.search, folder, on_gpu=on_gpu)
    print(f"\n{time.monotonic() - began:.0f} s in all", flush=True)


if __name__ == "__main__":
    main()
