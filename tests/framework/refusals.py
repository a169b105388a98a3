"""What no batch system lets a job ask for, and the words in which each of them says so."""

from __future__ import annotations

from tests.framework.batch import JobRequest

_UNNAMED = "is no image's name or digest (write it like debian:12)"
_TOO_MUCH = "a machine of always has at most 1.5 GiB of memory, and the job asks for more (ask for less, or submit elsewhere)"
REFUSED = [
    (JobRequest(image="el:9"), "dayfly: the image el:9 is not allowed here (these are: debian:*)"),
    (
        JobRequest(image="debian:99"),
        "dayfly: there is no image debian:99 in the system library {library} (`dayfly image list` shows the images)",
    ),
    (JobRequest(image="debian@sha256:" + "0" * 64), "is not allowed here (these are: debian:*)"),
    (JobRequest(image="debian:12;id"), _UNNAMED),
    (JobRequest(image="debian:`id`"), _UNNAMED),
    (
        JobRequest(queue="never"),
        "dayfly: never has no virtual machines (leave the options that ask for one out, or submit elsewhere)",
    ),
    (
        JobRequest(queue="always", image="none"),
        "dayfly: every job of always runs in a virtual machine (leave the image none out, or submit elsewhere)",
    ),
    (
        JobRequest(queue="always", memory=1600),
        _TOO_MUCH,
    ),
    (
        JobRequest(queue="always", image=None, memory=1600),
        _TOO_MUCH,
    ),
]
"""Wishes under a site that allows `debian:*`, has a queue `always` (of 1536 MiB at most) and a queue `never`."""
NESTED = "this is a machine of Dayfly's already, and machines do not run machines (submit the job from a host)"
