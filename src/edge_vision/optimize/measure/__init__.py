"""What a model costs: bytes, arithmetic, memory, time; and how well it does."""
