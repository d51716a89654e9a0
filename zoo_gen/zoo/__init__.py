"""Zoos as they are read: arrays and tables, their card, pictures and verification."""

from zoo_gen.zoo.zoo import Zoo, ZooView, open_zoo

__all__ = ["Zoo", "ZooView", "open_zoo"]
