"""Confirmation of an experiment: trained with new seeds and measured on the sealed test set."""
