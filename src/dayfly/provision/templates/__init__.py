"""Templates: a cache of snapshots of booted machines, from which machines for jobs are cloned."""
