"""Zoos as they are read: arrays and tables, their card, pictures and verification."""

from zoo_gen.zoo.equivalent import Equivalent, symmetries_of
from zoo_gen.zoo.forward import ForwardPass
from zoo_gen.zoo.zoo import Zoo, ZooView, open_zoo

__all__ = ["Equivalent", "ForwardPass", "Zoo", "ZooView", "open_zoo", "symmetries_of"]
