"""The words of the command line: every command, its options and their values. Standard library alone."""
