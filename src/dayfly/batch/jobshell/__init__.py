"""The job shell: what a batch system runs in the place of a job's own shell, and how it makes a machine of an allocation."""
