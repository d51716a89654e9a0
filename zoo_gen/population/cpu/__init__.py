"""Populations on a CPU: convolutions of many models in vector registers."""
