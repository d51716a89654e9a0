"""The encoder that passes messages along the edges of a network's graph."""
