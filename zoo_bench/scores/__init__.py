"""Scores: probes, metrics and their intervals."""
