"""The folds of a run together: several trained at once, and their predictions made one."""
