"""What all workers share about when something may be sent: paces, the circuit, the account, an operator's pause."""
