"""The common parts of `dayfly batch setup` for all batch systems: of the hooks, and for editing a site's files."""
