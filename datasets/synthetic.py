"""A synthetic fitness landscape: always there, the same everywhere, and not additive.

Its only random source is SHA-256 and its arithmetic is that of whole numbers up to one division, so every
machine makes the same sequences and targets bit for bit.
"""

from __future__ import annotations

import csv
import hashlib
import io
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from pathlib import Path

from datasets.crop import Crop, Sites
from datasets.errors import UserError, nearest
from datasets.seeds import derive_seed
from datasets.task import Announce, Located, RawSplit, Task

_VERSION = "synthetic-1"  # of the landscape and its splits; counts up with every change of their content
_RESIDUES = "ACDEFGHIKLMNPQRSTVWY"
_LENGTH = 32
_SITES = tuple(range(6, 26))  # the positions that are mutated
# Kyte and Doolittle's hydropathy (1982) in tenths, and charge at neutral pH.
_HYDROPATHY = dict(
    zip(
        _RESIDUES,
        (18, 25, -35, -35, 28, -4, -32, 45, -39, 38, 19, -35, -16, -35, -45, -8, -7, 42, -9, -13),
        strict=True,
    )
)
_CHARGE = {"D": -1, "E": -1, "K": 1, "R": 1}
# Pairs of positions in contact lie this far apart, as on the faces of a helix and along a strand.
_CONTACT_OFFSETS = (1, 3, 4)
_MAX_N_MUTATIONS_TRAIN = {"one_vs_rest": 1, "two_vs_rest": 2}
_N_DOUBLES = 1500  # of all: measured, as most of the singles are
_N_HIGHER = 1000  # triples, and as many quadruples
_VALIDATION_PER_MILLE = 160


@dataclass(frozen=True, slots=True)
class SyntheticSource:
    """The generator in the place of a file."""

    def locate(self, *, data_dir: Path | None, announce: Announce) -> Located:
        """Name the landscape; nothing has to be looked for."""
        return Located(path=None, version=_VERSION, official=True, label="synthetic landscape")

    def read(self, located: Located, split: str) -> RawSplit:
        """Generate the rows of a split."""
        if split not in _MAX_N_MUTATIONS_TRAIN:
            raise UserError(
                f"The synthetic landscape has no split {split!r}; those it has are: "
                f"{', '.join(_MAX_N_MUTATIONS_TRAIN)}." + nearest(split, _MAX_N_MUTATIONS_TRAIN)
            )
        rows = _rows(_MAX_N_MUTATIONS_TRAIN[split])
        table = io.StringIO()
        csv.writer(table, lineterminator="\n").writerows([("sequence", "target", "set", "validation"), *rows])
        sequence, target, part, validation = zip(*rows, strict=True)
        return RawSplit(
            sequence=sequence,
            target=target,
            part=part,
            validation=validation,
            lines=range(2, 2 + len(rows)),
            content_hash=hashlib.sha256(table.getvalue().encode()).hexdigest(),
            where=f"synthetic_{split}",
        )


def fitness(sequence: str) -> float:
    """Return the noise-free fitness in (0, 1) of a sequence as long as the wild type; pure function."""
    stability = _BIAS
    for site in _SITES:
        stability += _site_effect(site, sequence[site])
    for first, second in _contacts():
        stability += _pair_effect(first, second, sequence[first], sequence[second])
    # Saturates on both sides, as binding and folding do: x / sqrt(1 + x^2) without the root.
    x = stability / _SCALE
    return 0.5 + 0.5 * x / (1.0 + abs(x))


_BIAS = 250
_SCALE = 400.0


def _draw(n: int, *what: int | str) -> int:
    """Return a whole number in [0, n) that depends on what it is for."""
    return derive_seed(_VERSION, *what) % n


WILD_TYPE = "".join(_RESIDUES[_draw(20, "wild type", site)] for site in range(_LENGTH))


@cache
def _site_effect(site: int, residue: str) -> int:
    """Return what a residue adds to the stability at a site; 0 for the wild type."""
    wild = WILD_TYPE[site]
    if residue == wild:
        return 0
    burial = _draw(10, "burial", site)  # 0 at the surface to 9 in the core
    change = _HYDROPATHY[residue] - _HYDROPATHY[wild]
    own = _draw(81, "site", site, residue) - 40
    return own - 12 * burial + burial * change // 2


@cache
def _contacts() -> tuple[tuple[int, int], ...]:
    return tuple(
        (first, second) for first, second in combinations(_SITES, 2) if second - first in _CONTACT_OFFSETS
    )


@cache
def _pair_effect(first: int, second: int, residue: str, other: str) -> int:
    """Return what two residues in contact add: opposite charges and two greasy residues attract."""
    charges = -120 * _CHARGE.get(residue, 0) * _CHARGE.get(other, 0)
    return charges + _HYDROPATHY[residue] * _HYDROPATHY[other] // 12


def _rows(n_mutations_train: int) -> list[tuple[str, str, str, str]]:
    """Return sequence, target, set and validation of each row, the wild type first."""
    rows = []
    for n_mutations, variants in enumerate(
        (
            [WILD_TYPE],
            _singles(),
            *(_sample(n, k) for k, n in ((2, _N_DOUBLES), (3, _N_HIGHER), (4, _N_HIGHER))),
        )
    ):
        for variant in variants:
            noise = _draw(2001, "noise", variant) - 1000
            target = f"{fitness(variant) + noise * 0.00002:.5f}"
            is_train = n_mutations <= n_mutations_train
            is_validation = (
                is_train and n_mutations > 0 and _draw(1000, "validation", variant) < _VALIDATION_PER_MILLE
            )
            rows.append((variant, target, "train" if is_train else "test", "True" if is_validation else ""))
    return rows


def _singles() -> list[str]:
    return [
        WILD_TYPE[:site] + residue + WILD_TYPE[site + 1 :]
        for site in _SITES
        for residue in _RESIDUES
        if residue != WILD_TYPE[site]
    ]


def _sample(n_variants: int, n_mutations: int) -> list[str]:
    """Return different variants with exactly that many mutations."""
    variants: dict[str, None] = {}
    draw = 0
    while len(variants) < n_variants:
        residues = list(WILD_TYPE)
        for mutation in range(n_mutations):
            site = _SITES[_draw(len(_SITES), "mutate", n_mutations, draw, mutation)]
            residues[site] = _RESIDUES[_draw(20, "into", n_mutations, draw, mutation)]
        variant = "".join(residues)
        if sum(a != b for a, b in zip(variant, WILD_TYPE, strict=True)) == n_mutations:
            variants[variant] = None
        draw += 1
    return [*variants]


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
    )
    for split in _MAX_N_MUTATIONS_TRAIN
)
