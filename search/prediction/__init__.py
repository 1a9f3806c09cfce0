"""Any number of candidates: predicted in blocks, ranked, and written."""
