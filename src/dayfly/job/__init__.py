"""One job in one machine: its description, running it, and its usage record."""
