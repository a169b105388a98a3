"""One description of a job for every batch system, and for this host alone: `description` reads it.

Each batch system's own folder has a module `submit`, which renders the description in its words and reads its answers.
"""
