"""Candidates predicted by one experiment or by several, a property each, and ranked by all of them."""
