"""What the scores of a large alignment cost: `python tests/benchmarks/bench_couplings.py [COLUMNS [SEQUENCES]]`.

Sequences are drawn from a pairwise model, a third of them; the others are relatives of these, and a twentieth of all is
gaps. The goal, for 300 columns and 20,000 sequences on two cores, is 10 minutes and 6 GB. The seconds of processor time
say what it takes where other work holds the cores; the peak is of this process, torch and the file included.
"""

import os
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from datasets.alignments.scores import make_alignment_scores
from tests.helpers.alignments import random_model, sampled, write_fasta, written

LIMIT_S, LIMIT_GB = 600, 6


def made(n_columns: int, n: int) -> list[str]:
    """Rows of an alignment."""
    random = np.random.default_rng(0)
    fields, couplings, contacts = random_model(random, n_columns, 3 * n_columns // 2, 0.7)
    drawn = sampled(random, 1.5 * fields, couplings, contacts, -(-n // 3), n_sweeps=10)
    codes = np.concatenate([drawn] * 3)[:n]
    share = random.choice([0.05, 0.1, 0.3], size=(n - len(drawn), 1))
    changed = np.zeros(codes.shape, dtype=np.bool_)
    changed[len(drawn) :] = random.random((n - len(drawn), n_columns)) < share
    codes[changed] = random.integers(0, 20, changed.sum())
    gaps = random.random(codes.shape) < 0.05
    gaps[0] = False
    codes[gaps] = 20
    return written(codes)


def main() -> None:
    """Print the figures beside the goal."""
    n_columns, n = (*map(int, sys.argv[1:]), *(300, 20_000)[len(sys.argv) - 1 :])
    rows = made(n_columns, n)
    with tempfile.TemporaryDirectory() as folder:
        path = write_fasta(Path(folder) / "made.fasta", rows)
        started, cpu_started, stages = time.monotonic(), time.process_time(), {}

        def tell(what: str, n_done: int, n_total: int) -> None:
            if n_done == n_total:
                stages[what] = time.monotonic() - started

        scores = make_alignment_scores(path, rows[0], cache_dir=Path(folder) / "cache", on_progress=tell, threads=2)
        seconds, cpu_s = time.monotonic() - started, time.process_time() - cpu_started
        variant = np.frombuffer(("W" + rows[0][1:]).encode(), dtype=np.uint8)[None]
        print("\n".join(scores.sentences), scores.score(variant, np.array([n_columns])))
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    ended = ", ".join(f"{what} after {at:.0f} s" for what, at in stages.items())
    print(
        f"{n_columns} columns, {n:,} sequences, two threads: {seconds:.0f} s (goal {LIMIT_S} for the default sizes; "
        f"{ended}), {cpu_s:.0f} s of processor time, peak {peak_gb:.1f} GB (goal {LIMIT_GB}); load average "
        f"{os.getloadavg()[1]:.1f} over five minutes on {os.cpu_count()} cores"
    )


if __name__ == "__main__":
    main()
