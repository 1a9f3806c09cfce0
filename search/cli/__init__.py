"""The commands: each turns its options into work and the outcome into words and an exit status."""
