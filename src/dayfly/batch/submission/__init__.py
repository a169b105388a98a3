"""One description of a job for all batch systems, and for this host alone: `description` reads it.

Each adapter has a module `submit`, which renders the description for its batch system and reads its answers.
"""
