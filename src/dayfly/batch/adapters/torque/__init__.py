"""Torque: `starter.sh` is pbs_mom's job starter, `filter` reads a job's wishes when it is submitted, `job` reads what Torque says
of it, and `setup` renders what a site configures.
"""
