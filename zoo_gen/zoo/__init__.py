"""Zoos as they are read: arrays and tables, their card, pictures and verification."""

from zoo_gen.zoo.forward import ForwardPass
from zoo_gen.zoo.zoo import Zoo, ZooView, open_zoo

__all__ = ["ForwardPass", "Zoo", "ZooView", "open_zoo"]
