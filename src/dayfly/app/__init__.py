"""What can be done with Dayfly, without parsing words or printing: the command line calls it, and services can."""
