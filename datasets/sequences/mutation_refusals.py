"""What is said of mutations that are none, or that have two readings."""

from __future__ import annotations

import re

_DASHED = re.compile(r"[A-Z]?[0-9]+-[A-Z]?[0-9]+[A-Z*=-]?")
_TWO_PROTEINS = re.compile(r"(?<![A-Za-z0-9])p\.[^\]]*(\];\s*\[|\(;\))", re.IGNORECASE)
_X = re.compile(r"(?<![A-Za-z])([A-Za-z]?-?[0-9]{1,8})[xX](?![A-Za-z])")


def doubt(text: str) -> str | None:
    """Return what is said of a cell that has two readings though each of its mutations has one; None of any other.

    HGVS divides what stands on two proteins by ``];[``, and what may do so by ``(;)``. ``Q9X`` is a stop codon in
    older tables, and a residue that is not known in others.
    """
    if _TWO_PROTEINS.search(text):
        return (
            f"{short(text)} is of two proteins, or may be: HGVS writes the mutations of one protein as "
            "p.[Val39Ala;Asp40Gly]"
        )
    if found := _X.search(text):
        return (
            f"{short(found[0])} has two readings, a stop codon (write {found[1]}*) and a residue that is not known "
            "(leave the variant out)"
        )
    return None


def no_mutation(word: str) -> str:
    """Return what is said of a word that is no mutation."""
    _, *behind = re.split("[0-9]", word.upper(), maxsplit=1)
    if any(name in text for text in behind for name in ("INS", "DUP")):
        return (
            f"{short(word)} is an insertion, which mutations of a wild type cannot say: give the whole sequences, "
            "aligned with '-' for gaps"
        )
    if _DASHED.fullmatch(word.upper()):
        return (
            f"{short(word)} has two readings, a dash between mutations and a deletion: divide mutations by ':', and "
            "write a deletion as V39- or V39del"
        )
    return f"{short(word)} is no mutation such as V39A"


def short(text: str) -> str:
    """Return a text as a message quotes it."""
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
