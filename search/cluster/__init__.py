"""Engines and schedulers that bring workers to other machines: Ray, SLURM, Kubernetes."""
