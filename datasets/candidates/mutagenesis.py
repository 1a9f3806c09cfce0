"""Variants of a wild type, enumerated without ever holding all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, product
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from datasets.batches.window import LengthLimit, place_windows
from datasets.candidates.candidates import BLOCK_ROWS, Candidates, Stream
from datasets.candidates.mutation_map import RESIDUES
from datasets.common.errors import UserError
from datasets.sequences.chains import Chains
from datasets.task import Task

MAX_VARIANTS = 2 * 10**9


@dataclass(frozen=True, kw_only=True, slots=True)
class Mutagenesis:
    """`singles` or `doubles` of all positions that the model sees, `doubles` at `sites`, or all combinations there.

    Sites have the numbers that mutations of the task have (`Task.first_position`), or names such as `H39` in chains.
    """

    kind: Literal["singles", "doubles", "sites"]
    sites: tuple[int | str, ...] = ()


def enumerate_variants(wanted: Mutagenesis, *, task: Task, crop: str | None, limit: LengthLimit) -> Stream:
    """Return the variants of the task's wild type, block by block, named by their mutations.

    Of n sites there are 20^n combinations, the wild type (`WT`) among them; of L positions 19 L singles, or
    361 L (L - 1) / 2 doubles, without singles and the wild type. Positions ascend, then residues in the order of the
    alphabet.

    Raises:
        UserError: The task has no wild type, a site lies outside of it or of what the model sees or is named twice,
            there are not two of them for doubles, or more variants than anybody waits for.
    """
    wild_type = task.wild_type
    if wild_type is None:
        raise UserError(f"--mutagenesis needs a wild type and {task.name} has none: give candidates with --input.")
    positions = seen_positions(wild_type, task=task, crop=crop, limit=limit)
    variants = _Variants(wild_type, task)
    numbers = _numbers(wanted.sites, task.chains)
    sites = _checked(numbers, len(wild_type), positions, task.first_position) or positions
    if wanted.kind == "doubles" and len(sites) < 2:
        raise UserError(
            "Doubles are of two positions or more, and there is one: name others, as in --mutagenesis doubles:11,170, "
            "or take singles."
        )
    if wanted.kind == "sites":
        n_total = len(RESIDUES) ** len(sites)
        blocks = variants.combinations(sites)
    else:
        per_position = [len(variants.changes(position)) for position in sites]
        n_total = sum(per_position)
        blocks = variants.singles(sites)
        if wanted.kind == "doubles":
            n_total = (n_total**2 - sum(n**2 for n in per_position)) // 2
            blocks = variants.doubles(sites)
    if n_total > MAX_VARIANTS:
        raise UserError(
            f"--mutagenesis would enumerate {n_total:,} variants, at most {MAX_VARIANTS:,}: name fewer sites."
        )
    return Stream(label="mutations", blocks=blocks, n_total=n_total)


def seen_positions(wild_type: str, *, task: Task, crop: str | None, limit: LengthLimit) -> range:
    """Return the positions of the task's wild type, counted from 0, that a model sees."""
    starts, stops = place_windows(np.array([len(wild_type)]), task=task, crop=crop, limit=limit)
    return range(int(starts[0]), int(stops[0]))


def _numbers(sites: Sequence[int | str], chains: Chains | None) -> list[int]:
    """Return the numbers of sites; in chains, those of the columns, counted from 1."""
    try:
        if chains is not None:
            for site in (
                site for i, site in enumerate(sites) if str(site).upper() in map(str.upper, map(str, sites[:i]))
            ):
                raise UserError(f"The site {site} is named twice: name each once.")
            return [chains.place(str(site)) + 1 for site in sites]
        return [int(site) for site in sites]
    except ValueError as error:
        named = str(error) if chains is not None else "the wild type is one chain, whose positions are numbers"
        raise UserError(f"--mutagenesis: {named}.") from None


def _checked(sites: Sequence[int], n_residues: int, seen: range, first: int) -> list[int]:
    """Return the sites, of which `first` is the number of the wild type's first residue, 0-based and ascending."""
    for i, site in enumerate(sites):
        if not 0 <= site - first < n_residues:
            raise UserError(
                f"The site {site} is outside of the wild type, whose positions are {first} to {first + n_residues - 1}."
            )
        if site - first not in seen:
            raise UserError(
                f"The site {site} is outside of what the model sees of the wild type, positions {first + seen.start} "
                f"to {first + seen.stop - 1}: mutations there change no prediction."
            )
        if site in sites[:i]:
            raise UserError(f"The site {site} is named twice: name each once.")
    return sorted(site - first for site in sites)


class _Variants:
    def __init__(self, wild_type: str, task: Task) -> None:
        self._wild_type, self._task = wild_type, task
        self._codes: NDArray[np.uint8] = np.frombuffer(wild_type.encode("ascii"), dtype=np.uint8)

    def changes(self, position: int) -> str:
        """The residues that the wild type does not have there."""
        return RESIDUES.replace(self._wild_type[position], "")

    def singles(self, positions: Sequence[int]) -> Iterator[Candidates]:
        """One change at a time."""
        at, to, words = self._changes_of(positions)
        for first in range(0, len(at), BLOCK_ROWS):
            rows = slice(first, first + BLOCK_ROWS)
            yield self._block(words[rows], [(at[rows], to[rows])])

    def doubles(self, positions: Sequence[int]) -> Iterator[Candidates]:
        """Two changes at different positions, which ascend: each change with all those at later positions."""
        for place in range(len(positions) - 1):
            at, to, words = self._changes_of(positions[place : place + 1])
            late_at, late_to, late_words = self._changes_of(positions[place + 1 :])
            n_late = len(late_at)
            for start in range(0, len(at) * n_late, BLOCK_ROWS):
                first, late = np.divmod(np.arange(start, min(start + BLOCK_ROWS, len(at) * n_late)), n_late)
                names = [f"{words[i]}:{late_words[j]}" for i, j in zip(first.tolist(), late.tolist(), strict=True)]
                yield self._block(names, [(at[first], to[first]), (late_at[late], late_to[late])])

    def combinations(self, sites: Sequence[int]) -> Iterator[Candidates]:
        """Every residue at every site."""
        words = [
            ["" if residue == self._wild_type[site] else self._name(site, residue) for residue in RESIDUES]
            for site in sites
        ]
        codes = np.frombuffer(RESIDUES.encode(), dtype=np.uint8)
        named = product(*words)
        n_total = len(RESIDUES) ** len(sites)
        for first in range(0, n_total, BLOCK_ROWS):
            numbers = np.arange(first, min(first + BLOCK_ROWS, n_total))
            changes = []
            for place, site in enumerate(sites):
                digits = numbers // len(RESIDUES) ** (len(sites) - 1 - place) % len(RESIDUES)
                changes.append((np.full(len(numbers), site), codes[digits]))
            names = [":".join(filter(None, parts)) or "WT" for parts in islice(named, len(numbers))]
            yield self._block(names, changes)

    def _changes_of(self, positions: Sequence[int]) -> tuple[NDArray[np.int64], NDArray[np.uint8], list[str]]:
        """All single changes: positions (n,), residues (n,) and names."""
        pairs = [(position, residue) for position in positions for residue in self.changes(position)]
        at = np.array([position for position, _ in pairs], dtype=np.int64)
        to = np.frombuffer("".join(residue for _, residue in pairs).encode(), dtype=np.uint8)
        return at, to, [self._name(position, residue) for position, residue in pairs]

    def _name(self, position: int, residue: str) -> str:
        return self._task.mutation(position, self._wild_type[position], residue)

    def _block(self, names: list[str], changes: Sequence[tuple[NDArray[np.int64], NDArray[np.uint8]]]) -> Candidates:
        residues = np.tile(self._codes, (len(names), 1))
        rows = np.arange(len(names))
        for at, to in changes:
            residues[rows, at] = to
        lengths = np.full(len(names), len(self._codes), dtype=np.int64)
        return Candidates(labels=names, residues=residues, lengths=lengths)
