"""Workers on other machines, by engines and schedulers (Ray, SLURM, Kubernetes), on studies whose database counts."""
