"""Slurm: `job` reads its description of a task, `setup` renders the site's configuration. The plugin in `spank/` calls the job
shell.
"""
