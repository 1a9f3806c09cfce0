"""A Postgres of one's own, for whoever has no administrator to set one up."""
