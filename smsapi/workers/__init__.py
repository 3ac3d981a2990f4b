"""Processes that send: each keeps a heartbeat in the store."""
