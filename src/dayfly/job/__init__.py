"""One job in one machine: what was asked, running it, and the record of what it used."""
