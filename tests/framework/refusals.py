"""What no batch system lets a job ask for, and the words in which each of them says so."""

from __future__ import annotations

from tests.framework.batch import JobRequest

_UNNAMED = "is not an image's name or digest (write it like debian:12)"
_TOO_MUCH = "a machine of always has at most 1.5 GiB of memory, but the job requests more (request less, or use another queue)"
REFUSED = [
    (JobRequest(image="el:9"), "dayfly: the image el:9 is not allowed here (allowed: debian:*)"),
    (
        JobRequest(image="debian:99"),
        "dayfly: there is no image debian:99 in the system library {library} (`dayfly image list` shows the images)",
    ),
    (JobRequest(image="debian@sha256:" + "0" * 64), "is not allowed here (allowed: debian:*)"),
    (JobRequest(image="debian:12;id"), _UNNAMED),
    (JobRequest(image="debian:`id`"), _UNNAMED),
    (
        JobRequest(queue="never"),
        "dayfly: never has no virtual machines (remove the options that request one, or use another queue)",
    ),
    (
        JobRequest(queue="always", image="none"),
        "dayfly: every job of always runs in a virtual machine (do not request the image none, or use another queue)",
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
"""Requests under a site that allows `debian:*`, has a queue `always` (of 1536 MiB at most) and a queue `never`."""
NESTED = "this host is itself a machine of Dayfly, and machines cannot run machines (submit the job from a host)"
