"""What is assumed of the relevances of positions before data, and of how many rows they are found; without torch."""

RELEVANCE_ROWS = 768
"""How many training sequences are looked at: a step costs their square times the columns."""
RELEVANCE_STD = 0.5
"""Of the logarithm of a relevance, before training."""
