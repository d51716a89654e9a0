"""Populations on a GPU: kernels of our own and what drives them."""
