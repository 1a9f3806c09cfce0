"""The residues a sequence may hold, in FLIP's order (`baselines/utils.py` of FLIP)."""

ALPHABET = "ARNDCQEGHILKMFPSTWYVXU"
GAP = "-"
"""What stands in an alignment where a sequence has no residue; of no other table (`Task.aligned_length`)."""
