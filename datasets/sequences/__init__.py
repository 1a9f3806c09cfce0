"""Protein sequences: residues, tokens, mutations, and the parts of them that vary."""
