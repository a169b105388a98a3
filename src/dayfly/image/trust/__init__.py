"""Signed lists of images, and images signed by keys: whom a library trusts, and which of these images may still run."""
