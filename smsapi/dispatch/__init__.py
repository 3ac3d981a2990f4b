"""The worker: claims what is due under a lease, and runs it."""
