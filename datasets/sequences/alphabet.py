"""The residues a sequence may hold, in FLIP's order (`baselines/utils.py` of FLIP)."""

ALPHABET = "ARNDCQEGHILKMFPSTWYVXU"
GAP = "-"
"""What stands in an alignment where a sequence has no residue; of no other table (`Task.aligned_length`)."""


def in_capitals(text: str) -> str:
    """Return residues in upper case; letters that are none stay where they would become some (the German sz is SS)."""
    if text.isascii():
        return text.upper()
    pairs = ((letter, letter.upper()) for letter in text)
    return "".join(letter if upper.isascii() and not letter.isascii() else upper for letter, upper in pairs)
