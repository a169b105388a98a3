"""Images: their names, their parts, and the libraries that store them."""
