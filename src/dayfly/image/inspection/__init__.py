"""What is in an image, read from its files: nothing is booted, mounted or unpacked. All of them may have been made to do harm."""
