"""What is in an image, read from its files: nothing is booted, mounted or unpacked, and all of it may have been made to do harm."""
