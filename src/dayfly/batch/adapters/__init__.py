"""One package for each batch system: its description of a job, its configuration, and the submission of jobs."""
