"""What is known of the rows that a model was trained on, where the rows themselves are not at hand."""

import math
from dataclasses import dataclass
from typing import Literal

from datasets.common.errors import UserError
from datasets.sequences.alphabet import ALPHABET, GAP

VARIED = "-"
ALWAYS_GAP = "."
"""In a template, where all sequences of an alignment have a gap."""

Origin = Literal["search", "confirm"]
"""Whose training rows: those of the weights that a search kept, or that `confirm` left."""


@dataclass(frozen=True, kw_only=True)
class Familiar:
    """What has to be known of the rows that a model was trained on to say what lies outside of them.

    lengths: the shortest and the longest sequence, of what the model sees of each. alphabet: the residues in what it
    sees. whole: of whole sequences of the most frequent length, the residue at each position where all have the same,
    `-` where they differ and `.` where all have the gap of an alignment. seen: likewise of what the model sees.
    most_mutations: the most that a sequence has, None where no wild type is known. targets: the smallest and the
    largest, in the assay's unit.

    Raises:
        UserError: A value is not what it can be, whoever wrote it.
    """

    lengths: tuple[int, int]
    alphabet: str
    whole: str
    seen: str
    most_mutations: int | None
    targets: tuple[float, float]

    def __post_init__(self) -> None:
        """Check what an experiment file may say of it."""
        shortest, longest = self.lengths
        _expect(1 <= shortest <= longest, "lengths", list(self.lengths), "the shortest and the longest, from 1 on")
        is_alphabet = bool(self.alphabet) and _is_made_of(self.alphabet, ALPHABET + GAP)
        _expect(is_alphabet, "alphabet", self.alphabet, f"some of {ALPHABET}")
        for name, text in (("whole", self.whole), ("seen", self.seen)):
            is_template = bool(text) and _is_made_of(text, ALPHABET + VARIED + ALWAYS_GAP)
            _expect(is_template, name, text, f"residues of {ALPHABET}, and {VARIED} where they differ")
        fits = shortest <= len(self.seen) <= longest
        _expect(fits, "seen", self.seen, f"{shortest} to {longest} letters, as lengths says")
        _expect(self.most_mutations is None or self.most_mutations >= 0, "most_mutations", self.most_mutations, ">= 0")
        lowest, highest = self.targets
        is_range = math.isfinite(lowest) and math.isfinite(highest) and lowest <= highest
        _expect(is_range, "targets", list(self.targets), "the smallest and the largest, both finite")


def _is_made_of(text: str, letters: str) -> bool:
    return not set(text) - set(letters)


def _expect(is_met: bool, name: str, value: object, expected: str) -> None:
    if not is_met:
        shown = value if not isinstance(value, str) or len(value) <= 40 else f"{value[:37]}..."
        raise UserError(f"{name}={shown!r} is not valid: expected {expected}.")
