"""The residues a sequence may hold, in FLIP's order (`baselines/utils.py` of FLIP)."""

ALPHABET = "ARNDCQEGHILKMFPSTWYVXU"
