"""Proteins of several chains as one row of columns, a part of it for each chain: `EVQ|DIQM` as `EVQDIQM`.

A chain has as many columns as its longest sequence; a shorter one has gaps behind its end. Positions are named by
chain, `H39`, and mutations as `H:V39A:L:S31T`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from datasets.sequences.alphabet import GAP, in_capitals

DIVIDER = "|"
"""Between chains, wherever they are written."""
LINKER = ":"
"""In residues (ASCII), what stands for a linker between chains in a language model's input: no letter of a sequence."""
N_LINKER = 25
"""Glycines of it, as ESMFold has them (Lin et al. 2023)."""
DIVIDERS = "|:/;,"
"""What may stand between them where somebody else writes them."""
_DIVIDERS = re.compile(rf"\s*[{DIVIDERS}]+\s*")
_CHAIN = re.compile(r"([A-Z])([1-9][0-9]{0,6})")
MOST_CHAINS = 26
"""One for each letter."""


def has_chains(text: str) -> bool:
    """Whether a sequence is divided into chains."""
    return _DIVIDERS.search(text) is not None


def chains_in(text: str, *, keeps_stops: bool = False) -> list[str]:
    """Return the chains of a sequence in capitals; one may be empty. A stop (*) at an end is left out unless kept."""
    return [part.strip() if keeps_stops else part.strip().rstrip("*") for part in _DIVIDERS.split(in_capitals(text))]


def letters_of(names: Sequence[str]) -> str:
    """Return a letter for each chain: the first one in which the names of their columns differ, or else A, B, C.

    `heavy` and `light` are H and L, as are `VH_seq` and `VL_seq`.
    """
    upper = [name.upper() for name in names]
    at = next((i for i, some in enumerate(zip(*upper, strict=False)) if len(set(some)) > 1), None)
    found = "" if at is None else "".join(name[at] for name in upper)
    is_told = len(found) > 1 and len(set(found)) == len(found) and re.fullmatch("[A-Z]+", found)
    return found if is_told else "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[: len(names)]


@dataclass(frozen=True, slots=True)
class Chains:
    """The names of chains, a letter each, and how many columns each has."""

    names: str
    lengths: tuple[int, ...]

    @classmethod
    def of(cls, text: str) -> Chains:
        """Read what `str` writes, `H120 L107`; a ValueError for anything else."""
        found = [_CHAIN.fullmatch(word) for word in text.split(" ")]
        names = "".join(one[1] for one in found if one)
        if not all(found) or not 2 <= len(set(names)) == len(found) <= MOST_CHAINS:
            raise ValueError("expected chains and their columns, such as 'H120 L107'")
        return cls(names, tuple(int(one[2]) for one in found if one))

    def __str__(self) -> str:
        return " ".join(f"{name}{length}" for name, length in zip(self.names, self.lengths, strict=True))

    @property
    def starts(self) -> tuple[int, ...]:
        """The column, counted from 0, in which each chain begins."""
        return tuple(sum(self.lengths[:i]) for i in range(len(self.lengths)))

    def joined(self, text: str, *, has_gaps: bool = True) -> str:
        """Return the columns of a sequence that is written with a divider between its chains.

        `has_gaps`: the model knows gaps, so that a chain may be shorter than it was in training. A ValueError says what
        is wrong: the number of chains, or the length of one.
        """
        parts = chains_in(text)
        if len(parts) != len(self.lengths):
            raise ValueError(
                f"the sequence has {len(parts)} chain{'s' * (len(parts) != 1)}, expected {len(self.lengths)} "
                f"({', '.join(self.names)}), divided by '{DIVIDER}'"
            )
        for name, part, length in zip(self.names, parts, self.lengths, strict=True):
            if not part.strip(GAP):
                raise ValueError(f"the chain {name} holds no residue")
            if len(part) > length or (len(part) < length and not has_gaps):
                most = "at most " if has_gaps else ""
                raise ValueError(f"the chain {name} has {len(part)} residues, and in training it has {most}{length}")
        return "".join(part.ljust(length, GAP) for part, length in zip(parts, self.lengths, strict=True))

    def parts(self, columns: str) -> list[str]:
        """Return the columns of each chain."""
        return [columns[start : start + n] for start, n in zip(self.starts, self.lengths, strict=True)]

    def written(self, columns: str) -> str:
        """Return a sequence as it is written, without the gaps behind the ends of chains."""
        return DIVIDER.join(part.rstrip(GAP) for part in self.parts(columns))

    def chain_at(self, place: int) -> tuple[str, int]:
        """Return the chain of a column, counted from 0, and the number of its position there, from 1."""
        number = max(i for i, start in enumerate(self.starts) if start <= place)
        return self.names[number], place - self.starts[number] + 1

    def position(self, place: int) -> str:
        """Return what the position at a column, counted from 0, is called: `H39`."""
        name, number = self.chain_at(place)
        return f"{name}{number}"

    def place(self, position: str) -> int:
        """Return the column, counted from 0, of a position such as `H39`; a ValueError for one that there is not."""
        match = _CHAIN.fullmatch(position.upper())
        if match is None or match[1] not in self.names:
            letters = ", ".join(self.names)
            raise ValueError(f"{position} names no chain: expected one of {letters} before it, as in {letters[0]}1")
        number, length = int(match[2]), self.lengths[self.names.index(match[1])]
        if number > length:
            raise ValueError(f"{position} lies outside of the chain {match[1]}, whose positions are 1 to {length}")
        return self.starts[self.names.index(match[1])] + number - 1

    def mutation(self, place: int, before: str, after: str) -> str:
        """Return what a mutation at a column, counted from 0, is called: `H:V39A`."""
        name, number = self.chain_at(place)
        return f"{name}:{before}{number}{after}"
