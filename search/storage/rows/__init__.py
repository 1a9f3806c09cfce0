"""Rows of a study: read from the database and checked before anything relies on them."""
