"""Data: what the tasks are, where their files come from, and how a model gets to see them."""
