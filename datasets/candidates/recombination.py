"""Combinations of mutations that were measured, the best of them first in line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, islice, product

import numpy as np
from numpy.typing import NDArray

from datasets.candidates.candidates import BLOCK_ROWS, Candidates, Stream
from datasets.candidates.mutagenesis import MAX_VARIANTS
from datasets.candidates.mutation_map import RESIDUES
from datasets.common.errors import UserError
from datasets.task import Task

USUAL_COMBINATIONS = 200_000
"""At most, where nobody says of how many mutations they are made."""
_IS_RESIDUE = np.zeros(256, dtype=np.bool_)
_IS_RESIDUE[list(RESIDUES.encode())] = True


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasuredMutation:
    """A mutation at a position, counted from 0, to a residue; `mean` of the targets of all rows that have it."""

    position: int
    residue: str
    mean: float


def measured_mutations(
    wild_type: str,
    positions: range,
    residues: NDArray[np.uint8],
    lengths: NDArray[np.int64],
    target: NDArray[np.float32],
) -> list[MeasuredMutation]:
    """Return the mutations at some positions that measured rows have, those with the highest mean target first.

    Args:
        wild_type: the whole sequence. Rows of another length are passed over, and residues other than the usual 20.
        positions: counted from 0.
        residues: (N, Lmax) uint8, ASCII codes of whole sequences, padded with zeros.
        lengths: (N,).
        target: (N,) what they were measured at.
    """
    letters = np.frombuffer(wild_type.encode(), dtype=np.uint8)
    same = np.flatnonzero(lengths == len(letters))
    if not len(same):
        return []
    values = target[same].astype(np.float64)
    found = []
    for position in positions:
        column = residues[same, position]
        sums = np.bincount(column, weights=values, minlength=256)
        counts = np.bincount(column, minlength=256)
        for code in np.flatnonzero((counts > 0) & _IS_RESIDUE).tolist():
            if code != letters[position]:
                found.append(
                    MeasuredMutation(position=position, residue=chr(code), mean=float(sums[code] / counts[code]))
                )
    return sorted(found, key=lambda one: (-one.mean, one.position, one.residue))


def recombined(
    task: Task, mutations: Sequence[MeasuredMutation], *, most: int, n_best: int | None = None
) -> tuple[Stream, int]:
    """Return the combinations of up to `most` of the first `n_best` mutations, and how many mutations these are.

    The task has a wild type, whose mutations they are.

    At most one mutation stands at a position. Without `n_best` it is the largest number that gives no more than
    `USUAL_COMBINATIONS`. Combinations of fewer mutations come first, then in the order of positions and residues.

    Raises:
        UserError: There are no mutations, or more combinations than anybody waits for.
    """
    if not mutations:
        raise UserError(
            "--recombine combines mutations that were measured, and no row for training and validation has any as long "
            "as the wild type: give candidates with --input or --mutagenesis."
        )
    if n_best is None:
        first, last = 1, len(mutations)
        while first < last:
            middle = (first + last + 1) // 2
            if _count(mutations[:middle], most) <= USUAL_COMBINATIONS:
                first = middle
            else:
                last = middle - 1
        n_best = first
    some = mutations[:n_best]
    n_total = _count(some, most)
    if n_total > MAX_VARIANTS:
        raise UserError(
            f"--recombine {n_best} with --max-mutations {most} would make {n_total:,} candidates, at most "
            f"{MAX_VARIANTS:,}: name fewer mutations."
        )
    return Stream(label="mutations", blocks=_blocks(task, some, most), n_total=n_total), len(some)


def _by_position(mutations: Sequence[MeasuredMutation]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for one in sorted(mutations, key=lambda one: (one.position, one.residue)):
        found.setdefault(one.position, []).append(one.residue)
    return found


def _count(mutations: Sequence[MeasuredMutation], most: int) -> int:
    """How many combinations there are of 1 to `most` mutations at different positions."""
    per_size = [1]
    for residues in _by_position(mutations).values():
        longer = [*per_size, 0]
        for size in range(1, len(longer)):
            longer[size] += per_size[size - 1] * len(residues)
        per_size = longer[: most + 1]
    return sum(per_size[1:])


def _combinations(mutations: Sequence[MeasuredMutation], most: int) -> Iterator[tuple[tuple[int, str], ...]]:
    by_position = _by_position(mutations)
    for size in range(1, min(most, len(by_position)) + 1):
        for positions in combinations(by_position, size):
            for residues in product(*(by_position[position] for position in positions)):
                yield tuple(zip(positions, residues, strict=True))


def _blocks(task: Task, mutations: Sequence[MeasuredMutation], most: int) -> Iterator[Candidates]:
    wild_type = task.wild_type or ""
    letters = np.frombuffer(wild_type.encode(), dtype=np.uint8)
    every = _combinations(mutations, most)
    while some := list(islice(every, BLOCK_ROWS)):
        residues = np.tile(letters, (len(some), 1))
        rows = np.repeat(np.arange(len(some)), [len(changes) for changes in some])
        at = np.array([position for changes in some for position, _ in changes])
        to = "".join(residue for changes in some for _, residue in changes).encode()
        residues[rows, at] = np.frombuffer(to, dtype=np.uint8)
        labels = [
            ":".join(task.mutation(position, wild_type[position], residue) for position, residue in changes)
            for changes in some
        ]
        yield Candidates(labels=labels, residues=residues, lengths=np.full(len(some), len(letters), dtype=np.int64))
