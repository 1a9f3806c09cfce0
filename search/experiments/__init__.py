"""Experiments: a best trial as files that anybody can check, with the ledger of its test readings."""
