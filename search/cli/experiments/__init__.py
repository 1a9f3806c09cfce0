"""The commands about experiments: trained again, confirmed, combined, predicted with, and the next plate."""
