"""What became of messages whose outcome is not known."""
