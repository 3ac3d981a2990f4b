"""What callers hear of by themselves: endpoints, signed deliveries, and the list of events to read instead."""
