"""Grid Engine: `job` reads what it gave a job, `setup` renders what a site configures, `apply` does it by qconf.

The starter calls the job shell; the methods reach its machine; the JSV reads a job's wish when it is submitted.
"""
