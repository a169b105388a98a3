"""Signed lists of images: whom a library believes, and what it still may run of what came that way."""
