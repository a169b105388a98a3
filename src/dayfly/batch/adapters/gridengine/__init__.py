"""Grid Engine: `job` reads its description of a job, `setup` renders the site's configuration, `apply` applies it by qconf.

The starter calls the job shell; the methods suspend, resume and end its machine; the JSV checks a job's request at submission.
"""
