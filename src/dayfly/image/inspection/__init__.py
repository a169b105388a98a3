"""What is in an image, read from its files. Nothing is booted, mounted or unpacked. All input is hostile."""
