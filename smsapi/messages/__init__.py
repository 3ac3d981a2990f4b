"""The record: messages, their one-way statuses, and their events."""
