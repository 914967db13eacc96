"""Places where jobs are done: this machine, Ray, Slurm."""
