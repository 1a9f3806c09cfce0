"""GB1's table of four sites as its makers would have it: mutations of the domain, replicates, CRLF."""

import os
from pathlib import Path

import numpy as np
import pytest

from datasets.tasks.flip import GB1_WILD_TYPE, clean_flip
from datasets.tasks.split_zip import read_split

DOMAIN = GB1_WILD_TYPE[:56]
NOISE_SD = 0.05


def mutations_of(sequence: str, wild_type: str) -> str:
    """Return ``V39A:D40G`` for a sequence of the wild type's length, ``WT`` for the wild type."""
    words = [f"{a}{i}{b}" for i, (a, b) in enumerate(zip(wild_type, sequence, strict=True), 1) if a != b]
    return ":".join(words) or "WT"


def flip_file() -> Path:
    """FLIP's GB1 file; the test is skipped where it is not at hand."""
    folder = os.environ.get("FLIPSEARCH_DATA")
    for layout in ("flip/gb1/splits.zip", "splits/gb1/splits.zip", "gb1/splits.zip"):
        if folder and (path := Path(folder) / layout).is_file():
            return path
    pytest.skip("FLIP's GB1 file is not in $FLIPSEARCH_DATA")


def write_gb1(folder: Path, *, n_variants: int | None = None) -> tuple[Path, Path, dict[str, float]]:
    """Write `gb1.csv` and the wild type's `gb1.fasta`; return them and each sequence's target.

    Each variant is measured one to three times, with noise, in lines that stand apart from each other; `n_variants`
    takes so many of them, the wild type first.
    """
    raw = read_split(flip_file(), "sampled")
    random = np.random.default_rng(0)
    rows: list[tuple[str, float]] = []
    known: dict[str, float] = {}
    wild_first = sorted(zip(raw.sequence, raw.target, strict=True), key=lambda row: row[0][:56] != DOMAIN)
    for sequence, text in wild_first[:n_variants]:
        domain = clean_flip(sequence)[:56]
        known[domain] = float(text)
        noise = random.normal(0, NOISE_SD, size=random.integers(1, 4))
        rows += [(mutations_of(domain, DOMAIN), float(text) + delta) for delta in (noise - noise.mean()).tolist()]
    lines = [f"{mutations},{target!r}" for mutations, target in (rows[i] for i in random.permutation(len(rows)))]
    table, fasta = folder / "gb1.csv", folder / "gb1.fasta"
    table.write_bytes("\r\n".join(["mutant,fitness", *lines, ""]).encode())
    fasta.write_text(f">GB1 domain, 56 residues\n{DOMAIN}\n")
    return table, fasta, known
