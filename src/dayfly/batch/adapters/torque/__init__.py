"""Torque: `starter.sh` is pbs_mom's job starter, `filter` reads a job's request at submission, `job` reads Torque's description
of the job, and `setup` renders the site's configuration.
"""
