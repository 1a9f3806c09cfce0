"""A user's table: read from CSV, TSV, FASTA, Parquet or Excel, checked, and divided into train, validation and test."""
