"""Under a batch system: what all of them have in common. Each has a folder here with what is its own.

The batch system's hook executes `dayfly job-shell SYSTEM WORD=VALUE… -- COMMAND` in the place of the job's command, in the job's
own process, cgroups and working directory. `request` reads that, the system's `job` says what the batch system gave, `policy`
whether the job gets a machine, `allocation` how large it is, and `shell` does it.
"""
