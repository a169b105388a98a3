"""Templates: machines that were booted once and saved, to be restored copy-on-write for every job.

`key` says what makes one, `store` finds and opens it, `restore` wakes a clone of it: these are on the way to every job's start.
`save` boots and saves one, `making` keeps it on disk, `upkeep` lists and removes them.
"""
