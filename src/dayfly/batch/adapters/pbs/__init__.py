"""PBS (OpenPBS, PBS Professional): `hook.PY` runs inside its daemons and replaces a job's shell by the job shell, `job` reads
PBS's description of a job, `setup` renders the site's configuration, and `apply` applies it by qmgr.
"""
