"""Populations: many models trained as one stacked computation."""
