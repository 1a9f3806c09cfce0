"""Variants written as mutations of a wild type: ``V39A:D40G``, 1-based."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from datasets.sequences.alphabet import ALPHABET

_SEPARATORS = re.compile(r"[:,;/+\s]+")
_MUTATION = re.compile(r"([A-Z*])([1-9][0-9]{0,6})([A-Z*-])")
_LOOKS = re.compile(r"[A-Z*]?[1-9][0-9]{0,6}[A-Z*-]([:,;/+ ]+[A-Z*]?[1-9][0-9]{0,6}[A-Z*-])*")
WILD_TYPE_WORDS = frozenset({"wt", "_wt", "wildtype", "wild-type", "wild_type", "wild type", "p.=", "="})


class MutationError(ValueError):
    """A cell that names no variant of the wild type; its text says why."""


@dataclass(slots=True)
class Mutator:
    """Applies mutations to a wild type."""

    wild_type: str
    _known: dict[str, tuple[int, str]]

    def __init__(self, wild_type: str) -> None:
        self.wild_type = wild_type
        self._known = {}

    def apply(self, text: str) -> str:
        """Return the sequence of a variant.

        A MutationError says what is wrong: a mutation that is not one, a position outside of the wild type, a residue
        that the wild type does not have there, a position named twice, a stop codon or a gap.
        """
        text = text.strip()
        if text.lower() in WILD_TYPE_WORDS:
            return self.wild_type
        if not text:
            raise MutationError("the cell with the mutations is empty (the wild type is written WT)")
        pieces, end = [], 0
        places = sorted(self._parsed(word) for word in _SEPARATORS.split(text))
        for position, residue in places:
            if position < end:
                raise MutationError(f"{text!r} names position {position + 1} twice")
            pieces += [self.wild_type[end:position], residue]
            end = position + 1
        return "".join([*pieces, self.wild_type[end:]])

    def _parsed(self, word: str) -> tuple[int, str]:
        """Return the 0-based position and the new residue."""
        place = self._known.get(word)
        if place is None:
            place = self._known[word] = self._parse(word)
        return place

    def _parse(self, word: str) -> tuple[int, str]:
        match = _MUTATION.fullmatch(word.upper())
        if not match:
            raise MutationError(f"{word!r} is no mutation such as V39A")
        before, position, after = match[1], int(match[2]), match[3]
        if position > len(self.wild_type):
            raise MutationError(
                f"{word!r} names position {position}, but the wild type has {len(self.wild_type)} residues"
            )
        if self.wild_type[position - 1] != before:
            raise MutationError(
                f"{word!r} names {before} at position {position}, where the wild type has "
                f"{self.wild_type[position - 1]}"
            )
        if after == "*":
            raise MutationError(f"{word!r} is a stop codon")
        if after == "-":
            raise MutationError(f"{word!r} is a deletion, which mutations cannot say: give the whole sequences")
        if after not in ALPHABET:
            raise MutationError(f"{word!r} names the residue {after!r}, which is not one of {ALPHABET}")
        return position - 1, after


def are_mutations(cells: Sequence[str]) -> bool:
    """Whether a column's cells read as mutations (or WT), judged by its first hundred that are not empty."""
    some = [text for cell in cells[:1000] if (text := cell.strip())][:100]
    words = [text for text in some if text.lower() not in WILD_TYPE_WORDS]
    return bool(words) and all(_LOOKS.fullmatch(text.upper()) for text in words)


def normal_form(text: str) -> str:
    """Return ``V39A:D40G`` for mutations written with any separators, ``WT`` for the wild type."""
    text = text.strip()
    return "WT" if text.lower() in WILD_TYPE_WORDS else _SEPARATORS.sub(":", text.upper())


def is_wild_type(cell: str) -> bool:
    """Whether a cell says that nothing is mutated."""
    return cell.strip().lower() in WILD_TYPE_WORDS
