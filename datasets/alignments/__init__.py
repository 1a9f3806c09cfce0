"""Scores of variants from an alignment of related proteins: read, matched to the wild type, counted, fitted, cached."""
