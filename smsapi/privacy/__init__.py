"""Personal data and its end: retention by age, redaction of one message, erasure of one person's number."""
