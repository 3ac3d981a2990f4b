"""The act: what a message must be, taking it, and delivering it."""
