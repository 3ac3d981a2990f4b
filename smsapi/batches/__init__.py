"""Many messages in one call: taken as a stream, made into messages as they go out, counted as they go."""
