"""Zero-shot scores: numbers that are known of a variant without measuring it, from tables, files, alignments or models."""
