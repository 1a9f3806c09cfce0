"""The scores that an alignment gives. Importable without NumPy."""

NAMES = ("site_independent", "conservation", "couplings")
