"""The checkpoint of a run: all that an interrupted training goes on from."""
