"""Architectures: layers, their parameter layout and symmetries, plain torch modules, and the named ones."""
