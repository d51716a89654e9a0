"""Zoos as they are read: arrays and tables, several as one, their card, pictures and verification."""

from zoo_gen.zoo.equivalent import Equivalent, symmetries_of
from zoo_gen.zoo.forward import ForwardPass
from zoo_gen.zoo.joint import JOIN, JointZoo, open_any, open_zoos
from zoo_gen.zoo.zoo import Zoo, ZooView, open_zoo

AnyZoo = Zoo | JointZoo

__all__ = [
    "JOIN",
    "AnyZoo",
    "Equivalent",
    "ForwardPass",
    "JointZoo",
    "Zoo",
    "ZooView",
    "open_any",
    "open_zoo",
    "open_zoos",
    "symmetries_of",
]
