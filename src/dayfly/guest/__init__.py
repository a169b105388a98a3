"""The interface to the guest: requests to the agent and its reports, and the archives that the guest starts from."""
