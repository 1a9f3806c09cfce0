"""A run as a checked configuration: composed by Hydra, resolved, and built from allowed classes alone."""
