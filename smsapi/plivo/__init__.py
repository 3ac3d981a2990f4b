"""The far side: Plivo's client, its outcomes as types, its signatures, and a simulator that speaks its wire format."""
