"""The formats of published zoos, a converter each."""
