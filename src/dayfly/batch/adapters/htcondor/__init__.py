"""HTCondor: `wrapper.sh` is the starter's USER_JOB_WRAPPER, `classad` reads the descriptions that HTCondor puts beside a job,
`job` makes a job of them, and `setup` renders what a site configures.
"""
