"""The job shell, which a batch system runs instead of a job's own shell: it runs the job in a machine of the job's allocation."""
