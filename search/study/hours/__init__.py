"""What a study's trials use of cores and GPUs, and its budget of these, in hours."""
