"""Images: what they are called, what they are made of, and the libraries that keep them."""
