"""Signed lists of images, and images signed by keys: whom a library believes, and what it still may run of what came that way."""
