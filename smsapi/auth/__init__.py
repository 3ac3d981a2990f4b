"""Who calls: clients, their API keys, and the tokens minted from those."""
