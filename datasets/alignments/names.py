"""The scores that an alignment gives, and the version of how they are made. Importable without NumPy."""

NAMES = ("site_independent", "conservation", "couplings")
VERSION = 1
"""Of the method: whatever changes the numbers has to raise it."""
