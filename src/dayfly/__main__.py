"""`python -m dayfly` is the same as `dayfly`."""

from dayfly.cli import entry

entry()
