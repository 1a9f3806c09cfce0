"""Variants written as mutations of a wild type: ``V39A:D40G``, 1-based, and the other ways in which people write that.

HGVS (den Dunnen et al. 2016) as MaveDB has it, ``p.[Val39Ala;Asp40Gly]``, ``p.Gln2=``, ``p.Gln2Ter``; other signs
between mutations; brackets around them; zeros before a position; positions without the wild type's residue, ``39A``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from datasets.sequences.alphabet import ALPHABET

# A dash, a dot, an underscore or a bar divides mutations where it stands between a residue and what follows; at the end
# of a word a dash is a deletion.
_SEPARATORS = re.compile(r"[:,;/+\s]+|(?<=[A-Za-z*=])[-_.|](?=[A-Za-z*0-9])")
_MUTATION = re.compile(r"([A-Z*]?)([1-9][0-9]{0,6})([A-Z*=-])")
_PREFIX = re.compile(r"(?<![A-Za-z])[pP]\.")
_HGVS = re.compile(r"([A-Z]{3})([0-9]+)([A-Z]{3}|[=*-])")
_LOOKS = re.compile(r"[A-Z*]?[1-9][0-9]{0,6}[A-Z*=-]")
_ZEROS = re.compile(r"^([A-Za-z*]?)0{1,3}(?=[1-9])")
_NAMES = "ALA ARG ASN ASP CYS GLN GLU GLY HIS ILE LEU LYS MET PHE PRO SER THR TRP TYR VAL SEC XAA TER DEL"
_THREE_LETTERS = dict(zip(_NAMES.split(), "ARNDCQEGHILKMFPSTWYVUX*-", strict=True))
WILD_TYPE_WORDS = frozenset(
    {"wt", "_wt", "_sy", "wildtype", "wild-type", "wild_type", "wild type", "p.=", "p.(=)", "="}
)
"""In lower case; `_sy` is MaveDB's word for variants that are synonymous, whose protein is the wild type."""


class MutationError(ValueError):
    """A cell that names no variant of the wild type; its text says why."""


@dataclass(slots=True)
class Mutator:
    """Applies mutations to a wild type."""

    wild_type: str
    _known: dict[str, tuple[int, str] | None]

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
        places = sorted(place for word in _words(text) if (place := self._parsed(word)) is not None)
        for position, residue in places:
            if position < end:
                raise MutationError(f"{text!r} names position {position + 1} twice")
            pieces += [self.wild_type[end:position], residue]
            end = position + 1
        return "".join([*pieces, self.wild_type[end:]])

    def _parsed(self, word: str) -> tuple[int, str] | None:
        """Return the 0-based position and the new residue; None where the residue stays the wild type's."""
        if word not in self._known:
            self._known[word] = self._parse(word)
        return self._known[word]

    def _parse(self, word: str) -> tuple[int, str] | None:
        match = _MUTATION.fullmatch(word.upper())
        if not match:
            raise MutationError(f"{word!r} is no mutation such as V39A")
        before, position, after = match[1], int(match[2]), match[3]
        if position > len(self.wild_type):
            raise MutationError(
                f"{word!r} names position {position}, but the wild type has {len(self.wild_type)} residues"
            )
        if before and self.wild_type[position - 1] != before:
            raise MutationError(
                f"{word!r} names {before} at position {position}, where the wild type has "
                f"{self.wild_type[position - 1]}"
            )
        if after == "=":
            return None
        if after == "*":
            raise MutationError(f"{word!r} is a stop codon")
        if after == "-":
            raise MutationError(f"{word!r} is a deletion, which mutations cannot say: give the whole sequences")
        if after not in ALPHABET:
            raise MutationError(f"{word!r} names the residue {after!r}, which is not one of {ALPHABET}")
        return position - 1, after


def _words(text: str) -> list[str]:
    """The mutations of a cell, each as ``V39A`` or, where it is none, as it stands there."""
    text = _PREFIX.sub("", text.strip()).replace(")(", ":").strip("[]() ")
    return [_one_letter(word.strip("()[]")) for word in _SEPARATORS.split(text)]


def _one_letter(word: str) -> str:
    match = _HGVS.fullmatch(word.upper())
    if match is None or match[1] not in _THREE_LETTERS or not (len(match[3]) == 1 or match[3] in _THREE_LETTERS):
        return _ZEROS.sub(r"\1", word)
    return f"{_THREE_LETTERS[match[1]]}{match[2]}{_THREE_LETTERS.get(match[3], match[3])}"


def are_mutations(cells: Sequence[str]) -> bool:
    """Whether a column's cells read as mutations (or WT), judged by its first hundred that are not empty."""
    some = [text for cell in cells[:1000] if (text := cell.strip())][:100]
    words = [text for text in some if text.lower() not in WILD_TYPE_WORDS]
    return bool(words) and all(_LOOKS.fullmatch(word.upper()) for text in words for word in _words(text))


def normal_form(text: str) -> str:
    """Return ``V39A:D40G`` for mutations written with any separators, ``WT`` for the wild type."""
    text = text.strip()
    return "WT" if text.lower() in WILD_TYPE_WORDS else ":".join(_words(text)).upper()


def is_wild_type(cell: str) -> bool:
    """Whether a cell says that nothing is mutated."""
    return cell.strip().lower() in WILD_TYPE_WORDS
