"""How fast `predict` is against the model's own forward pass, and what memory a million candidates take.

    FLIPSEARCH_DATA=... python tests/benchmarks/bench_predict.py [--n 1000000] [--threads 1]

The CNN of 43 channels is trained for an epoch on gb1_three_vs_rest (2,691 rows). Candidates are variants of the GB1
domain, 56 residues, with one to four mutations anywhere, as text. The program runs as its users run it, in a process of
its own, on a thousand of them and on all, without and with the distance to the training sequences. The forward pass is
that of the same weights on the same sequences, encoded beforehand, in the same batches, before and after the
program: other work on the machine slows both. Rates are also given by processor time, which other work touches less.
What a process costs before its first candidate (imports, weights, training data) is measured on the thousand, before
and after, and taken off.
"""

import argparse
import contextlib
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from datasets.batches.batch import Batch
from datasets.batches.encode import encode_sequences, evaluation_loader
from datasets.common.paths import Places
from datasets.splits.prepared import prepare
from datasets.tasks.flip import GB1_WILD_TYPE
from datasets.tasks.registry import find_task
from search.study.config import study_config
from search.training.predictor import Predictor
from tests.helpers.experiments import trained_experiment

ROOT = Path(__file__).parents[2]
TASK = "gb1_three_vs_rest"
LENGTH = 56
N_FEW = 1000
LIMIT_MB, LIMIT_RATIO = 300, 0.6


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Seconds on the clock and of processors, and the peak of resident memory."""

    wall_s: float
    cpu_s: float
    peak_mb: float = 0.0


def variants(n: int) -> np.ndarray:
    """Residues (n, 56) in ASCII."""
    random = np.random.default_rng(0)
    letters = np.frombuffer(b"ACDEFGHIKLMNPQRSTVWY", dtype=np.uint8)
    residues = np.tile(np.frombuffer(GB1_WILD_TYPE[:LENGTH].encode(), dtype=np.uint8), (n, 1))
    for _ in range(4):
        residues[np.arange(n), random.integers(0, LENGTH, n)] = letters[random.integers(0, 20, n)]
    return residues


def forward(predictor: Predictor, residues: np.ndarray) -> Cost:
    """The cost of the model's forward pass alone."""
    n = len(residues)
    lengths = np.full(n, LENGTH)
    encoded = encode_sequences(
        residues, lengths, task=predictor.task, tokenizer=predictor._tokenizer, crop=None, limit=predictor.limit
    )
    data = Batch(
        tokens=encoded.tokens,
        mask=encoded.mask,
        region=encoded.region,
        target=torch.zeros(n),
        index=torch.arange(n),
    )
    [model] = predictor._models
    loader = evaluation_loader(data, encoded.lengths, np.arange(n), batch_size=256, max_tokens=None, features=None)
    batches = list(loader)
    with torch.no_grad():
        model(batches[0])
        started, cpu = time.perf_counter(), time.process_time()
        for batch in batches:
            model(batch)
        return Cost(wall_s=time.perf_counter() - started, cpu_s=time.process_time() - cpu)


def program(experiment: Path, candidates: Path, folder: Path, *words: str) -> Cost:
    """The cost of the command in a process of its own."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [
            *(sys.executable, str(ROOT / "run_study.py"), "predict", str(experiment), "--quiet", *words),
            *("--input", str(candidates), "--output", str(folder / "ranked.csv")),
        ],
        cwd=folder,
    )
    # ru_maxrss of a child is at least its parent's memory when it was started: the peak is looked up while it runs.
    peak_kb = 0
    while True:
        with contextlib.suppress(OSError, StopIteration):
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            peak_kb = int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
        done, status, usage = os.wait4(process.pid, os.WNOHANG)
        if done:
            break
        time.sleep(0.02)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return Cost(wall_s=time.perf_counter() - started, cpu_s=usage.ru_utime + usage.ru_stime, peak_mb=peak_kb / 1024)


def mean_of(costs: list[Cost]) -> tuple[float, float]:
    """Seconds on the clock and of processors."""
    return sum(cost.wall_s for cost in costs) / len(costs), sum(cost.cpu_s for cost in costs) / len(costs)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--n", type=int, default=1_000_000)
    cores = sorted(os.sched_getaffinity(0))
    parser.add_argument("--threads", type=int, default=len(cores))
    arguments = parser.parse_args()
    n, threads = arguments.n, arguments.threads
    os.sched_setaffinity(0, cores[:threads])  # the program takes all that it may
    os.environ["GOMP_SPINCOUNT"] = "10000"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        split = prepare(find_task(TASK), data_dir=None, cache_dir=folder / "splits", announce=lambda sentence: None)
        words = [f"task={TASK}", "model=cnn", "validation=holdout", "trainer.max_epochs=1", "logger=none"]
        config = study_config(words).run({})
        places = Places(weights_dir=None, cache_dir=folder / "cache")
        experiment = folder / "cnn.yaml"
        trained_experiment(experiment, config, split, places)
        predictor = Predictor(config, [folder / "cnn" / "fold0.safetensors"], places=places)
        residues = variants(n)
        few, many = folder / "few.txt", folder / "many.txt"
        many.write_bytes(np.pad(residues, ((0, 0), (0, 1)), constant_values=ord("\n")).tobytes())
        few.write_bytes(np.pad(residues[:N_FEW], ((0, 0), (0, 1)), constant_values=ord("\n")).tobytes())
        sample = residues[: max(N_FEW, n // 5)]
        del residues
        torch.set_num_threads(threads)
        passes = [forward(predictor, sample)]
        starts = [program(experiment, few, folder, "--no-distance")]
        print(f"{N_FEW:,} candidates: {starts[0].wall_s:.1f} s, peak {starts[0].peak_mb:.0f} MB", flush=True)
        for words, what in ((["--no-distance"], "without distance"), ([], "with distance")):
            cost = program(experiment, many, folder, *words)
            starts.append(program(experiment, few, folder, "--no-distance"))
            passes.append(forward(predictor, sample))
            # What ran before and after the program speaks for the time in which it ran.
            start_s, start_cpu_s = mean_of(starts[-2:])
            forward_s, forward_cpu_s = (seconds * n / len(sample) for seconds in mean_of(passes[-2:]))
            ratio, cpu_ratio = forward_s / (cost.wall_s - start_s), forward_cpu_s / (cost.cpu_s - start_cpu_s)
            more_mb = cost.peak_mb - starts[0].peak_mb
            print(
                f"{n:,} {what}: {cost.wall_s:.1f} s, of which {start_s:.1f} s before the first; forward pass "
                f"{n / forward_s:,.0f} candidates a second; {ratio:.0%} of its rate ({cpu_ratio:.0%} by processor "
                f"time, goal {LIMIT_RATIO:.0%} without distance); peak {more_mb:+.0f} MB (limit {LIMIT_MB})",
                flush=True,
            )
        print(f"{threads} thread(s); this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MB")


if __name__ == "__main__":
    main()
