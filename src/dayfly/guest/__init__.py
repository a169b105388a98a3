"""The other side: what the host asks of the agent and what it reports, and the archives that the guest starts from."""
