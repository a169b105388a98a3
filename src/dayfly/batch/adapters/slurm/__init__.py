"""Slurm: `job` reads what it gave a task, `setup` renders what a site configures. The plugin in `spank/` calls the job shell."""
