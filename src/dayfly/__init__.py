"""Every batch job in a fresh virtual machine of its choice."""

__version__ = "0.1.0"
