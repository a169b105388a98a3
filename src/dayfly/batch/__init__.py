"""Dayfly under batch systems: an adapter for each, the job shell that runs their jobs, and the submission of jobs."""
