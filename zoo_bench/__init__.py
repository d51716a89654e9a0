"""zoo_bench: evaluate encoders of neural-network weights on zoos, and rank them."""
