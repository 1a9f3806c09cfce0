"""The search space: a tree that mirrors the config, whose leaves say how a value is chosen."""
