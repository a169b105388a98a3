"""The use cases of Dayfly, without parsing or printing: for the command line and for services."""
