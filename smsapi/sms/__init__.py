"""Facts about SMS, as pure functions: encoding and segments, phone numbers, senders, prices."""
