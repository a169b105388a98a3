"""Saving a machine to files, and restoring machines from them."""
