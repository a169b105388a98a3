"""One running virtual machine: its configuration, QEMU's command line, the monitor, the channel to the agent in it.

This layer takes paths and open files, never image names, and knows nothing of jobs' records or batch systems.
"""
