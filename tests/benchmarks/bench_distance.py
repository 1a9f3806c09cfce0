"""What the column `distance` of `predict` costs for long proteins whose lengths differ.

    python tests/benchmarks/bench_distance.py [--n 10000] [--n-unrelated 500] [--n-before 5]

Candidates of one length are measured against training sequences of other lengths, so that all of them are aligned: once
variants of one protein, once unrelated proteins, of which none is near. The reference is Myers's bit vectors in NumPy,
as they stood in `datasets/candidates/distances.py` before rapidfuzz: with them the same lower bounds are followed up,
for the first `--n-before` of the candidates. Both run in one thread of this process and have to find the same
distances. Seconds are of processor time, which other work on the machine touches less than the clock.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from datasets.batches.window import LengthLimit
from datasets.candidates.candidates import residues_of
from datasets.candidates.distances import TrainingSequences
from datasets.tasks.flip import clean_flip
from datasets.tasks.registry import find_task

LETTERS = np.frombuffer(b"ACDEFGHIKLMNPQRSTVWY", dtype=np.uint8)
LENGTH, N_TRAINING = 400, 2000
LIMIT_S = 30  # for 10,000 candidates
WORD = 64


def variants(random: np.random.Generator, n: int, most_indels: int) -> list[str]:
    """Of one protein: five substitutions each, and up to `most_indels` residues more or fewer, but never none."""
    protein = LETTERS[np.random.default_rng(0).integers(0, 20, LENGTH)]
    found = []
    for _ in range(n):
        variant = protein.copy()
        variant[random.integers(0, LENGTH, 5)] = LETTERS[random.integers(0, 20, 5)]
        if most_indels:
            at = random.integers(0, LENGTH, random.integers(1, most_indels + 1))
            more = random.random() < 0.5
            variant = (
                np.insert(variant, at, LETTERS[random.integers(0, 20, len(at))]) if more else np.delete(variant, at)
            )
        found.append(variant.tobytes().decode())
    return found


def unrelated(random: np.random.Generator, n: int, most_indels: int) -> list[str]:
    """Random residues."""
    more, sign = (random.integers(1, most_indels + 1, n), random.choice([-1, 1], n)) if most_indels else (0, 0)
    lengths = np.full(n, LENGTH) + sign * more
    return [LETTERS[random.integers(0, 20, size)].tobytes().decode() for size in lengths]


def before(candidates: list[str], training: list[str]) -> list[int]:
    """The distance of each candidate to the nearest training sequence, as it was computed before."""
    counts = np.array([[text.count(letter) for letter in LETTERS.tobytes().decode()] for text in training])
    groups = {n: np.flatnonzero([len(text) == n for text in training]) for n in {len(text) for text in training}}
    residues = {n: np.array([list(training[i].encode()) for i in rows]) for n, rows in groups.items()}
    found = []
    for candidate in candidates:
        own = np.array([candidate.count(letter) for letter in LETTERS.tobytes().decode()])
        nearest = sys.maxsize
        for n in sorted(groups, key=lambda n: abs(n - len(candidate))):
            surplus = counts[groups[n]] - own
            at_least = np.maximum(surplus.clip(0).sum(axis=1), (-surplus).clip(0).sum(axis=1))
            order, first, size = np.argsort(at_least, kind="stable"), 0, 16
            while first < len(order) and at_least[order[first]] < nearest:
                rows = order[first : first + size]
                rows = rows[at_least[rows] < nearest]
                nearest = min(nearest, int(bit_vectors(np.array(list(candidate.encode())), residues[n][rows]).min()))
                first, size = first + size, min(2 * size, 512)
        found.append(nearest)
    return found


def bit_vectors(pattern: np.ndarray, texts: np.ndarray) -> np.ndarray:
    """Levenshtein's distances (M,) from a pattern (L,) to texts (M, L') of one length (Myers 1999, Hyyro 2003)."""
    n_words, m = -(-len(pattern) // WORD), len(texts)
    equal = np.zeros((256, n_words), dtype=np.uint64)
    for position, code in enumerate(pattern.tolist()):
        equal[code, position // WORD] |= np.uint64(1 << (position % WORD))
    plus, minus = np.full((n_words, m), np.iinfo(np.uint64).max), np.zeros((n_words, m), dtype=np.uint64)
    one, top, last = np.uint64(1), np.uint64(WORD - 1), np.uint64((len(pattern) - 1) % WORD)
    score = np.full(m, len(pattern))
    for column in range(texts.shape[1]):
        matches = equal[texts[:, column]]
        plus_in, minus_in = np.full(m, one), np.zeros(m, dtype=np.uint64)
        for word in range(n_words):
            up, down, eq = plus[word], minus[word], matches[:, word]
            x_v, eq = eq | down, eq | minus_in
            x_h = (((eq & up) + up) ^ up) | eq
            plus_h, minus_h = down | ~(x_h | up), up & x_h
            if word == n_words - 1:
                score += ((plus_h >> last) & one).astype(np.int64) - ((minus_h >> last) & one).astype(np.int64)
            plus_out, minus_out = plus_h >> top, minus_h >> top
            plus_h, minus_h = (plus_h << one) | plus_in, (minus_h << one) | minus_in
            plus[word], minus[word] = minus_h | ~(x_v | plus_h), plus_h & x_v
            plus_in, minus_in = plus_out, minus_out
    return score


def timed(compute: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of processor time, and what was computed."""
    started = time.process_time()
    found = compute()
    return time.process_time() - started, found


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--n-unrelated", type=int, default=500)
    parser.add_argument("--n-before", type=int, default=5)
    arguments = parser.parse_args()
    n_before = arguments.n_before
    random = np.random.default_rng(1)
    limit = LengthLimit(max_length=None, max_residues=None, truncate=False)
    for make, n in ((variants, arguments.n), (unrelated, arguments.n_unrelated)):
        training, candidates = make(random, N_TRAINING, 5), make(random, n, 0)
        sequences = TrainingSequences(
            *residues_of(training, clean_flip), task=find_task("meltome_mixed"), crop=None, limit=limit
        )
        residues, lengths = residues_of(candidates, clean_flip)
        now_s, now = timed(lambda: sequences.distance(residues, lengths))  # noqa: B023
        before_s, expected = timed(lambda: before(candidates[:n_before], training))  # noqa: B023
        assert now[:n_before].tolist() == expected
        before_ms, now_ms = 1e3 * before_s / n_before, 1e3 * now_s / n
        print(
            f"{n:,} candidates of {LENGTH} residues against {N_TRAINING:,} {make.__name__}: {now_s:.1f} s, "
            f"{now_ms:.2f} ms each (goal {1e3 * LIMIT_S / 10_000:g}); with bit vectors in NumPy {before_ms:.0f} ms "
            f"each ({n_before} of them), {before_ms / now_ms:.0f} times as long; distances {now.min()} to {now.max()}",
            flush=True,
        )


if __name__ == "__main__":
    main()
