"""The next plate: which candidates to measure, picked from any number of them, and where they stand in wells."""
