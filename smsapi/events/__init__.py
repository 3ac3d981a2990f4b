"""The log of everything that a client may hear of, in one order for all readers."""
