"""What is asked of a study's trials time after time while it is searched."""
