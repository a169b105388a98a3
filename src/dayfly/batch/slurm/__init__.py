"""Slurm: `job` reads what Slurm gave a task, `setup` renders what a site configures. The plugin in `spank/` calls the job shell."""
