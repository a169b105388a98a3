"""One package for each batch system: how it describes a job, how it is configured, and how jobs are submitted to it."""
