"""A synthetic fitness landscape: always there, the same everywhere, and not additive.

Its only random source is SHA-256, and its arithmetic is that of whole numbers up to a division, so every
machine makes the same sequences and targets bit for bit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations, count
from pathlib import Path

from datasets.common.errors import UserError, nearest
from datasets.common.seeds import derive_seed
from datasets.sequences.crop import Crop, Sites
from datasets.task import Announce, FoundSource, RawSplit, Task

_VERSION = "synthetic-1"  # of the landscape and its splits; counts up with every change of their content
_RESIDUES = "ACDEFGHIKLMNPQRSTVWY"
_LENGTH = 32
_SITES = tuple(range(8, 24))  # the positions that are mutated
# Kyte and Doolittle's hydropathy (1982) in tenths, and charge at neutral pH.
_HYDROPATHY = dict(
    zip(
        _RESIDUES,
        (18, 25, -35, -35, 28, -4, -32, 45, -39, 38, 19, -35, -16, -35, -45, -8, -7, 42, -9, -13),
        strict=True,
    )
)
_CHARGE = {"D": -1, "E": -1, "K": 1, "R": 1}
# Positions this far apart touch each other, as on one face of a helix.
_CONTACT_OFFSETS = (1, 3, 4)
_WILD_TYPE_STABILITY = 300
_HALF_STABILITY = 400  # where the fitness is 3/4
# The most mutations that a variant in train has; the others are test.
_SPLITS = {"one_vs_rest": 1, "two_vs_rest": 2}
_N_DOUBLES = 600
_N_TRIPLES = 1000
_N_QUADRUPLES = 1000
_VALIDATION_PER_MILLE = 220


@dataclass(frozen=True, slots=True)
class SyntheticSource:
    """The generator in the place of a file."""

    def locate(self, *, data_dir: Path | None, announce: Announce) -> FoundSource:
        """Name the landscape; nothing has to be looked for."""
        return FoundSource(path=None, version=_VERSION, official=True, label="synthetic landscape")

    def read(self, located: FoundSource, split: str) -> RawSplit:
        """Generate the rows of a split."""
        if split not in _SPLITS:
            raise UserError(
                f"The synthetic landscape has no split {split!r}; those it has are: "
                f"{', '.join(_SPLITS)}." + nearest(split, _SPLITS)
            )
        rows = _rows(_SPLITS[split])
        table = "".join(f"{','.join(row)}\n" for row in [("sequence", "target", "set", "validation"), *rows])
        sequence, target, part, validation = zip(*rows, strict=True)
        return RawSplit(
            sequence=sequence,
            target=target,
            part=part,
            validation=validation,
            lines=range(2, 2 + len(rows)),
            content_hash=hashlib.sha256(table.encode()).hexdigest(),
            where=f"synthetic_{split}",
        )

    def sizes(self, located: FoundSource, split: str) -> tuple[int, int, int]:
        """Generate a split and count its train, validation and test rows."""
        marks = [(part, bool(validation)) for _, _, part, validation in _rows(_SPLITS[split])]
        return marks.count(("train", False)), marks.count(("train", True)), marks.count(("test", False))


def _draw(n: int, *what: int | str) -> int:
    """Return a whole number in [0, n) that depends on what it is for."""
    return derive_seed(_VERSION, *what) % n


WILD_TYPE = "".join(_RESIDUES[_draw(20, "wild type", site)] for site in range(_LENGTH))
_CONTACTS = [pair for pair in combinations(_SITES, 2) if pair[1] - pair[0] in _CONTACT_OFFSETS]
_APART = [pair for pair in combinations(_SITES, 2) if pair[1] - pair[0] not in _CONTACT_OFFSETS]


def fitness(sequence: str) -> float:
    """Return the noise-free fitness, in (0, 1), of a sequence (32 residues)."""
    stability = _WILD_TYPE_STABILITY
    for site in _SITES:
        stability += _site_effect(site, sequence[site])
    for first, second in _CONTACTS:
        stability += _pair_effect(sequence[first], sequence[second])
        stability -= _pair_effect(WILD_TYPE[first], WILD_TYPE[second])
    # Saturates on both sides, as folding and binding do.
    return 0.5 + 0.5 * stability / (_HALF_STABILITY + abs(stability))


@cache
def _site_effect(site: int, residue: str) -> int:
    """Return what a residue by itself adds to the stability at a site; 0 for the wild type's."""
    return 0 if residue == WILD_TYPE[site] else _draw(61, "site", site, residue) - 30


@cache
def _pair_effect(residue: str, other: str) -> int:
    """Return what two residues in contact add: like hydropathy and opposite charges attract."""
    charges = _CHARGE.get(residue, 0) * _CHARGE.get(other, 0)
    return 3 * _HYDROPATHY[residue] * _HYDROPATHY[other] // 10 - 300 * charges


def _rows(n_mutations_train: int) -> list[tuple[str, str, str, str]]:
    """Return sequence, target, set and validation of each row, the wild type first."""
    variants = (
        [WILD_TYPE],
        _singles(),
        # Half of the doubles sit in a contact: those say most about how residues work together.
        _sample(_N_DOUBLES // 2, _CONTACTS) + _sample(_N_DOUBLES // 2, _APART),
        _sample(_N_TRIPLES, [*combinations(_SITES, 3)]),
        _sample(_N_QUADRUPLES, [*combinations(_SITES, 4)]),
    )
    rows = []
    for n_mutations, sequences in enumerate(variants):
        is_train = n_mutations <= n_mutations_train
        for sequence in sequences:
            noise = 0.00002 * (_draw(2001, "noise", sequence) - 1000)
            is_validation = is_train and n_mutations > 0 and _draw(1000, "validation", sequence) < _VALIDATION_PER_MILLE
            rows.append(
                (
                    sequence,
                    f"{fitness(sequence) + noise:.5f}",
                    "train" if is_train else "test",
                    "True" if is_validation else "",
                )
            )
    return rows


def _singles() -> list[str]:
    return [_mutated((site,), residue) for site in _SITES for residue in _RESIDUES if residue != WILD_TYPE[site]]


def _sample(n_variants: int, places: Sequence[tuple[int, ...]]) -> list[str]:
    """Return different variants, each mutated at all sites of one of the places."""
    variants: dict[str, None] = {}
    for draw in count():
        if len(variants) == n_variants:
            break
        sites = places[_draw(len(places), "place", len(places[0]), draw)]
        residues = [_RESIDUES[_draw(20, "residue", len(places[0]), draw, site)] for site in sites]
        if all(WILD_TYPE[site] != residue for site, residue in zip(sites, residues, strict=True)):
            variants[_mutated(sites, residues)] = None
    return [*variants]


def _mutated(sites: Sequence[int], residues: Sequence[str]) -> str:
    sequence = list(WILD_TYPE)
    for site, residue in zip(sites, residues, strict=True):
        sequence[site] = residue
    return "".join(sequence)


TASKS: tuple[Task, ...] = tuple(
    Task(
        name=f"synthetic_{split}",
        dataset="synthetic",
        split=split,
        source=SyntheticSource(),
        clean=str,
        clean_version=1,
        crops={"none": Crop()},
        default_crop="none",
        region=Sites(positions=_SITES),
        wild_type=WILD_TYPE,
        units="fraction folded",
        has_one_length=True,
    )
    for split in _SPLITS
)
