"""Texts that people send to our numbers: stored once, given to whom they are for, and obeyed where they say STOP."""
