"""PBS (OpenPBS, PBS Professional): `hook.PY` runs inside its daemons and puts the job shell in the place of a job's shell, `job`
reads what PBS says of a job, `setup` renders what a site configures, and `apply` does that by qmgr.
"""
