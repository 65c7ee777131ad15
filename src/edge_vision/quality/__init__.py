"""Is this camera's picture good enough: full-reference, no-reference and sensor (EMVA 1288) figures."""
