"""The past played again: what a default picks in each round of what was measured, and what that would have found."""
