"""Files of variants by their kind: text of unknown making, CSV and TSV, FASTA, Parquet."""
