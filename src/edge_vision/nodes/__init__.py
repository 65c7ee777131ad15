"""One thin file a node: parameters, topics, one call into a room."""
