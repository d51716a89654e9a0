"""Populations on a GPU: Triton kernels, planned once and replayed."""
