"""The tasks: one module for each dataset, and finding a task by name."""
