"""What `dayfly batch setup` needs for every batch system: the parts that all hooks share, and edits of a site's files."""
