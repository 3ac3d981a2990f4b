"""Monitoring: the processes that send, known by their heartbeats, and the figures of the queue for whoever watches."""
