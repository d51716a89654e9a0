"""zoo_gen: train populations of neural networks as one computation, store them, and read them back.

The public names are imported on first use, so that commands start fast. Reading a zoo never imports torch.
"""

import sys
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoo_gen.architecture.layout import ParameterLayout
    from zoo_gen.engine.api import Plan, list_zoos, plan, run
    from zoo_gen.engine.merge import merge, split
    from zoo_gen.errors import ZooError
    from zoo_gen.image_data import ImageData, load_image_data
    from zoo_gen.manifest import ZooManifest, find_manifest, read_manifest
    from zoo_gen.published.api import convert, list_published_zoos, pull
    from zoo_gen.published.push import push
    from zoo_gen.zoo import JointZoo, Zoo, ZooView, open_zoo, open_zoos
    from zoo_gen.zoo.export import export
    from zoo_gen.zoo.plots import write_plots
    from zoo_gen.zoo.report import Report
    from zoo_gen.zoo.verify import verify

__all__ = [
    "ImageData",
    "JointZoo",
    "ParameterLayout",
    "Plan",
    "Report",
    "Zoo",
    "ZooError",
    "ZooManifest",
    "ZooView",
    "convert",
    "export",
    "find_manifest",
    "list_published_zoos",
    "list_zoos",
    "load_image_data",
    "merge",
    "open_zoo",
    "open_zoos",
    "plan",
    "pull",
    "push",
    "read_manifest",
    "run",
    "split",
    "verify",
    "write_plots",
]

_HOME = {
    "ImageData": "image_data",
    "JointZoo": "zoo",
    "ParameterLayout": "architecture.layout",
    "Plan": "engine.api",
    "Report": "zoo.report",
    "Zoo": "zoo",
    "ZooError": "errors",
    "ZooManifest": "manifest",
    "ZooView": "zoo",
    "convert": "published.api",
    "export": "zoo.export",
    "find_manifest": "manifest",
    "list_published_zoos": "published.api",
    "list_zoos": "engine.api",
    "load_image_data": "image_data",
    "merge": "engine.merge",
    "open_zoo": "zoo",
    "open_zoos": "zoo",
    "plan": "engine.api",
    "pull": "published.api",
    "push": "published.push",
    "read_manifest": "manifest",
    "run": "engine.api",
    "split": "engine.merge",
    "verify": "zoo.verify",
    "write_plots": "zoo.plots",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'zoo_gen' has no attribute {name!r}")
    return getattr(import_module(f"zoo_gen.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


class _Moved(ModuleType):
    """A module under the name that scripts know it by, which has moved: what is asked of it, its new place answers."""

    def __getattr__(self, name: str) -> object:
        return getattr(import_module("zoo_gen.zoo.verify"), name)


# `from zoo_gen.verify import verify` was the way before `zoo_gen.verify` was a function.
sys.modules["zoo_gen.verify"] = _Moved("zoo_gen.verify")
sys.modules["zoo_gen.verify"].__spec__ = ModuleSpec("zoo_gen.verify", None)
