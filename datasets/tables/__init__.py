"""A user's table: read from CSV, TSV, FASTA or Parquet, checked, and divided into train, validation and test."""
