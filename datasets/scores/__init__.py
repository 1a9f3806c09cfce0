"""Zero-shot scores: what is known of a variant without measuring it, from tables, files, alignments or models."""
