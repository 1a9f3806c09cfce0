"""What this machine and its interpreter give: cores, GPUs, limits, streams, and where modules come from."""
