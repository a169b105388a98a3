"""HTCondor: `wrapper.sh` is the starter's USER_JOB_WRAPPER, `classad` reads the ClassAds in a job's folder, `job` makes a job of
them, and `setup` renders the site's configuration.
"""
