"""Variants written as mutations of a wild type, ``V39A:D40G``, and the other ways in which people write that.

HGVS (den Dunnen et al. 2016) as MaveDB has it, ``p.[Val39Ala;Asp40Gly]``, ``p.Gln2=``, ``p.Gln2Ter``; other signs
between mutations; brackets around them; zeros before a position; positions without the wild type's residue, ``39A``;
deletions as ``V39-``, ``V39del``, ``ΔV39`` and, of several neighbours, ``V39_G41del``.
Positions are counted from the number of the wild type's first residue, which is 1 unless a table counts otherwise;
where a number is below 0, the residue stands before it, ``M-5A``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from datasets.sequences.alphabet import ALPHABET, GAP
from datasets.sequences.chains import Chains
from datasets.sequences.mutation_refusals import doubt, no_mutation, short

# A dash, a dot, an underscore or a bar divides mutations where it stands between a residue and what follows; at the end
# of a word a dash is a deletion, and after its first residue a minus.
_SEPARATORS = re.compile(
    r"[:,;/+&\s]+|(?<=[A-Za-z*=-])[_.|]{1,2}(?=[A-Za-z*0-9\u0394\u2206-])"
    r"|(?<=[A-Za-z0-9][A-Za-z*=])-(?=[A-Za-z*0-9])|(?<=[0-9]-)-(?=[A-Za-z*])"
)
_ALIGNED = re.compile(r"(-)(0|-?[1-9][0-9]{0,6})([A-Z*=-])")
_MUTATION = re.compile(r"([A-Z*]?)(0|[1-9][0-9]{0,6}|(?<=[A-Z])-[1-9][0-9]{0,6})([A-Z*=-])")
_END = r"([A-Z]{3}|[A-Z])?((?<=[A-Z])-[1-9][0-9]{0,6}|[0-9]{1,8})"  # of what is deleted: a residue, a position
_DELETED = re.compile(rf"(?:{_END}_)?{_END}DEL")
_DELTAS = ("\u0394", "\u2206")  # the Greek letter, and the sign of increments
_BARE = re.compile(r"[0-9]{1,7}[A-Z*-]")
_RANGE = re.compile(r"([A-Z]?)(-?[0-9]{1,8})_([A-Z]?)(-?[0-9]{1,8})DEL", re.IGNORECASE)  # as `_words` has it
_PREFIX = re.compile(r"(?<![A-Za-z0-9])[pP]\.")  # behind a number it is a proline, and a dot that divides
_DASHES = dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2212"), "-")  # as word processors and Excel replace it
_AROUND = "()[]{}'\""
_HGVS = re.compile(r"([A-Z]{3})([0-9]+)([A-Z]{3}|[=*-])")
_LOOKS = re.compile(r"[A-Z*-]?(0|[1-9][0-9]{0,6})[A-Z*=-]")
_ZEROS = re.compile(r"^([A-Za-z*]?)0{1,3}(?=[0-9])")
_BY_CHANCE = 0.05  # of the numberings that a wild type in any other order would explain, on average
_NAMES = "ALA ARG ASN ASP CYS GLN GLU GLY HIS ILE LEU LYS MET PHE PRO SER THR TRP TYR VAL SEC XAA TER DEL"
_THREE_LETTERS = dict(zip(_NAMES.split(), "ARNDCQEGHILKMFPSTWYVUX*-", strict=True))
WILD_TYPE_WORDS = frozenset(
    {"wt", "_wt", "_sy", "wildtype", "wild-type", "wild_type", "wild type", "p.=", "p.(=)", "p.[=]", "=", "[]"}
)
"""In lower case; `_sy` is MaveDB's word for variants that are synonymous, whose protein is the wild type."""


class MutationError(ValueError):
    """A cell that names no variant of the wild type; its text says why, and `kind` which sort of reason that is."""

    def __init__(self, text: str, kind: Literal["stop", "wild type", "outside", "other"] = "other") -> None:
        super().__init__(text)
        self.kind = kind


@dataclass(slots=True)
class Mutator:
    """Applies mutations to a wild type, whose first residue they call number `first_position`.

    Where it `has_gaps`, it is aligned, positions are columns of the alignment, `V39-` is a deletion and `-40A` an
    insertion where the wild type has a gap. Of several `chains`, mutations stand behind the name of theirs:
    `H:V39A:D40G:L:S31T`.
    """

    wild_type: str
    first_position: int
    has_gaps: bool
    chains: Chains | None
    _known: dict[str, tuple[tuple[int, str], ...]]

    def __init__(
        self, wild_type: str, first_position: int = 1, *, has_gaps: bool = False, chains: Chains | None = None
    ) -> None:
        self.wild_type, self.first_position = wild_type, first_position
        self.has_gaps, self.chains = has_gaps, chains
        self._known = {}

    def apply(self, text: str) -> str:
        """Return the sequence of a variant.

        A MutationError says what is wrong: a mutation that is not one, a position outside of the wild type, a residue
        that the wild type does not have there, a position named twice, a stop codon, a deletion where it has no gaps,
        one that leaves nothing of a chain, and one that has two readings.
        """
        text = text.strip()
        if text.lower() in WILD_TYPE_WORDS:
            return self.wild_type
        if not text:
            raise MutationError("the cell with the mutations is empty (the wild type is written WT)")
        if two_readings := doubt(text):
            raise MutationError(two_readings)
        pieces, end = [], 0
        words = _words(text) if self.chains is None else list(self._with_chain(_words(text), self.chains))
        places = sorted(place for word in words for place in self._parsed(word))
        for position, residue in places:
            if position < end:
                first = self.first_position
                name = str(position + first) if self.chains is None else self.chains.position(position)
                raise MutationError(f"{short(text)} names position {name} twice")
            pieces += [self.wild_type[end:position], residue]
            end = position + 1
        sequence = "".join([*pieces, self.wild_type[end:]])
        if GAP in sequence:
            self._check_residues(sequence, text)
        return sequence

    def _check_residues(self, sequence: str, text: str) -> None:
        """Refuse what deletions leave nothing of."""
        parts = [sequence] if self.chains is None else self.chains.parts(sequence)
        for number, part in enumerate(parts):
            if not part.strip(GAP):
                of = "" if self.chains is None else f" of the chain {self.chains.names[number]}"
                raise MutationError(f"{short(text)} deletes every residue{of}")

    def in_full(self, text: str) -> str:
        """Return the normal form with the wild type's residue before each position that lacks it, ``V39A`` of `39A`."""
        chain, words = "", []
        for word in normal_form(text).split(":"):
            if self.chains is not None and word in self.chains.names:
                chain = word
            elif _BARE.fullmatch(word) is not None and (self.chains is None or chain):
                place = self._place(word, chain, "", int(word[:-1]))
                word = f"{self.wild_type[place]}{word}"
            words.append(word)
        return ":".join(words)

    @staticmethod
    def _with_chain(words: Iterable[str], chains: Chains) -> Iterator[str]:
        """Yield each mutation behind the name of its chain, `H:V39A`."""
        chain = ""
        for word in words:
            if word.upper() in chains.names and len(word) == 1:
                chain = word.upper()
            elif not chain:
                raise MutationError(
                    f"{short(word)} names no chain ({', '.join(chains.names)}): write it {chains.names[0]}:{word[:20]}"
                )
            else:
                yield f"{chain}:{word}"

    def _parsed(self, word: str) -> tuple[tuple[int, str], ...]:
        """Return each 0-based position and its new residue; none where the residue stays the wild type's."""
        if word not in self._known:
            self._known[word] = self._parse(word)
        return self._known[word]

    def _parse(self, word: str) -> tuple[tuple[int, str], ...]:
        chain, _, bare = word.rpartition(":")
        if (found := _RANGE.fullmatch(bare)) is not None:
            first = self._place(word, chain, found[1], int(found[2]))
            last = self._place(word, chain, found[3], int(found[4]))
            if first >= last:
                raise MutationError(f"{short(word)} deletes from a position to one that does not come after it")
            self._check_deletion(word)
            return tuple((place, GAP) for place in range(first, last + 1) if self.wild_type[place] != GAP)
        match = _MUTATION.fullmatch(bare.upper()) or (_ALIGNED.fullmatch(bare.upper()) if self.has_gaps else None)
        if not match:
            raise MutationError(no_mutation(bare))
        after = match[3]
        if after == "*":
            raise MutationError(f"{short(word)} is a stop codon", "stop")
        place = self._place(word, chain, match[1], int(match[2]))
        if after == "=":
            return ()
        if after == GAP:
            self._check_deletion(word)
        elif after not in ALPHABET:
            raise MutationError(f"{short(word)} names the residue {after!r}, which is not one of {ALPHABET}")
        return ((place, after),)

    def _place(self, word: str, chain: str, before: str, position: int) -> int:
        """Return the 0-based place of a position, where the wild type has the residue `before`, if one is named."""
        first, n_residues, start = self.first_position, len(self.wild_type), 0
        if self.chains is not None:
            number = self.chains.names.index(chain)
            n_residues, start = self.chains.lengths[number], self.chains.starts[number]
        place = start + position - first
        if not start <= place < start + n_residues:
            has = f"has {n_residues} residues" if first == 1 else f"is counted from {first} to {first + n_residues - 1}"
            of = f"chain {chain} of the wild type" if chain else "wild type"
            raise MutationError(f"{short(word)} names position {position}, but the {of} {has}", "outside")
        if before and self.wild_type[place] != before:
            raise MutationError(
                f"{short(word)} names {before} at position {position}, where the wild type has {self.wild_type[place]}",
                "wild type",
            )
        return place

    def _check_deletion(self, word: str) -> None:
        if not self.has_gaps:
            raise MutationError(
                f"{short(word)} is a deletion, and the sequences here are known without gaps: give the whole sequence"
            )


def find_first_position(cells: Iterable[str], wild_type: str) -> int | None:
    """Return the one number of the wild type's first residue with which all mutations name residues that it has.

    Every number that a cell names has to lie in the wild type, and every residue before a number has to stand there;
    words that are no mutations say nothing. None where no number of the first residue explains them all, where two
    do (in a repeat, say), and where one could do so by accident: where more than one in twenty wild types of the same
    composition, in random order, would be explained by some number. Three or four positions are enough for that.
    """
    numbers: set[int] = set()
    residues: dict[int, str] = {}
    for cell in cells:
        for word in [] if is_wild_type(cell) else _words(cell):
            for residue, number in _named(word):
                numbers.add(number)
                if residue and residues.setdefault(number, residue) != residue:
                    return None
    if not residues:
        return None
    # The last number stands on the last residue at most, the first one on the first at least.
    possible = range(max(numbers) - len(wild_type) + 1, min(numbers) + 1)
    counts, n_by_chance = Counter(wild_type), float(len(possible))
    found = list(possible)
    for number, residue in residues.items():
        n_by_chance *= counts[residue] / len(wild_type)
        found = [first for first in found if wild_type[number - first] == residue]
    return found[0] if len(found) == 1 and n_by_chance < _BY_CHANCE else None


def _named(word: str) -> list[tuple[str, int]]:
    """The residues (empty where none is named) and the numbers of the positions that a mutation names."""
    if (found := _RANGE.fullmatch(word)) is not None:
        return [(found[1], int(found[2])), (found[3], int(found[4]))]
    match = _MUTATION.fullmatch(word.upper())
    return [] if match is None else [(match[1], int(match[2]))]


def _words(text: str) -> list[str]:
    """The mutations of a cell, each as ``V39A`` or, where it is none, as it stands there."""
    text = _PREFIX.sub("", text.translate(_DASHES).strip()).replace(")(", ":").replace("][", ":").strip(_AROUND + " ")
    return [_one_letter(word.strip(_AROUND)) for word in _SEPARATORS.split(text)]


def _one_letter(word: str) -> str:
    if (deletion := _deletion(word.upper())) is not None:
        return deletion
    match = _HGVS.fullmatch(word.upper())
    if match is None or match[1] not in _THREE_LETTERS or not (len(match[3]) == 1 or match[3] in _THREE_LETTERS):
        return _ZEROS.sub(r"\1", word)
    return f"{_THREE_LETTERS[match[1]]}{match[2].lstrip('0') or '0'}{_THREE_LETTERS.get(match[3], match[3])}"


def _deletion(word: str) -> str | None:
    """Return `V39DEL`, or `ΔV39`, as `V39-`, and `V39_G41DEL` as `V39_G41del`; None for anything else."""
    if word.startswith(_DELTAS):
        word = re.sub("(?<=[0-9])-", "_", word[1:]) + "DEL"
    found = _DELETED.fullmatch(word)
    if found is None or not all(len(name or "") < 3 or name in _THREE_LETTERS for name in found.group(1, 3)):
        return None
    ends = [
        f"{_THREE_LETTERS.get(found[i] or '', found[i] or '')}{int(found[i + 1])}"
        for i in (1, 3)
        if found[i + 1] is not None
    ]
    return f"{ends[0]}-" if len(ends) == 1 else f"{'_'.join(ends)}del"


def are_mutations(cells: Sequence[str], first_position: int = 1, *, chains: str = "") -> bool:
    """Whether a column's cells read as mutations (or WT), judged by its first hundred that are not empty.

    Codes of samples look like mutations with numbers below 0 (`P-1A`): most words have to be others, unless the wild
    type's `first_position` is below 1. `chains`: their names, where there are several.
    """
    some = [text for cell in cells[:1000] if (text := cell.strip())][:100]
    words = [word.upper() for text in some if text.lower() not in WILD_TYPE_WORDS for word in _words(text)]
    words = [word for word in words if len(word) != 1 or word not in chains]
    others = [word for word in words if not (_LOOKS.fullmatch(word) or _RANGE.fullmatch(word))]
    has_few = 2 * len(others) < len(words) or first_position < 1
    return bool(words) and has_few and all(_MUTATION.fullmatch(word) or _ALIGNED.fullmatch(word) for word in others)


def first_other(cells: Iterable[str], chains: str = "") -> int | None:
    """Return which cell is the first that reads as no mutations, where most do that are not empty; None of none."""
    filled = [(row, text) for row, cell in enumerate(cells) if (text := cell.strip())]
    others = [row for row, text in filled if not (is_wild_type(text) or are_mutations([text], chains=chains))]
    return others[0] if others and 2 * len(others) < len(filled) else None


def normal_form(text: str) -> str:
    """Return ``V39A:D40G`` for mutations written with any separators, ``WT`` for the wild type."""
    text = text.strip()
    words = ["WT"] if text.lower() in WILD_TYPE_WORDS else _words(text)
    return ":".join(word if _RANGE.fullmatch(word) else word.upper() for word in words)


def is_wild_type(cell: str) -> bool:
    """Whether a cell says that nothing is mutated."""
    return cell.strip().lower() in WILD_TYPE_WORDS
