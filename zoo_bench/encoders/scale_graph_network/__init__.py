"""The encoder whose messages along a network's graph commute with positive factors and signs of hidden units."""
