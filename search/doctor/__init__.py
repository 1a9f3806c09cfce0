"""The checks of `doctor`: machine, inputs and database."""
