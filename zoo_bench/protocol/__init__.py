"""Protocols: which models of which zoos train, select and test, and what an encoder may see of them."""
