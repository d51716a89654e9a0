"""zoo_gen: train populations of neural networks as one computation, store them, and read them back.

The public names are imported on first use, so that commands start fast. Reading a zoo never imports torch.
"""

import sys
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING

from zoo_gen.machine import mkl

if TYPE_CHECKING:
    from zoo_gen.architecture.layout import ParameterLayout
    from zoo_gen.engine.api import Plan, list_zoos, plan, run
    from zoo_gen.engine.comparison import Comparison, diff
    from zoo_gen.engine.merge import merge, split
    from zoo_gen.errors import ZooError
    from zoo_gen.image_data import ImageData, load_image_data
    from zoo_gen.manifest import ZooManifest, find_manifest, read_manifest
    from zoo_gen.published import convert
    from zoo_gen.published.pull import download, plan_pull, pull
    from zoo_gen.published.push import Release, plan_push, push
    from zoo_gen.published.sources.registry import list_published_zoos
    from zoo_gen.zoo import JointZoo, Zoo, ZooView, open_zoo, open_zoos
    from zoo_gen.zoo.export import export
    from zoo_gen.zoo.plots import write_plots
    from zoo_gen.zoo.report import Report
    from zoo_gen.zoo.verify import verify

__all__ = [
    "Comparison",
    "ImageData",
    "JointZoo",
    "ParameterLayout",
    "Plan",
    "Release",
    "Report",
    "Zoo",
    "ZooError",
    "ZooManifest",
    "ZooView",
    "convert",
    "diff",
    "download",
    "export",
    "find_manifest",
    "list_published_zoos",
    "list_zoos",
    "load_image_data",
    "merge",
    "open_zoo",
    "open_zoos",
    "plan",
    "plan_pull",
    "plan_push",
    "pull",
    "push",
    "read_manifest",
    "run",
    "split",
    "verify",
    "write_plots",
]

mkl.choose_mode()  # before the first product: MKL reads it then

_HOMES = {  # module -> the public names that it has
    "architecture.layout": ("ParameterLayout",),
    "engine.api": ("Plan", "list_zoos", "plan", "run"),
    "engine.comparison": ("Comparison", "diff"),
    "engine.merge": ("merge", "split"),
    "errors": ("ZooError",),
    "image_data": ("ImageData", "load_image_data"),
    "manifest": ("ZooManifest", "find_manifest", "read_manifest"),
    "published": ("convert",),
    "published.pull": ("download", "plan_pull", "pull"),
    "published.push": ("Release", "plan_push", "push"),
    "published.sources.registry": ("list_published_zoos",),
    "zoo": ("JointZoo", "Zoo", "ZooView", "open_zoo", "open_zoos"),
    "zoo.export": ("export",),
    "zoo.plots": ("write_plots",),
    "zoo.report": ("Report",),
    "zoo.verify": ("verify",),
}


def __getattr__(name: str) -> object:
    home = next((module for module, names in _HOMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module 'zoo_gen' has no attribute {name!r}")
    return getattr(import_module(f"zoo_gen.{home}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


class _Moved(ModuleType):
    """A module under the name that scripts know it by, which has moved: what is asked of it, its new place answers."""

    def __getattr__(self, name: str) -> object:
        return getattr(import_module("zoo_gen.zoo.verify"), name)


# `from zoo_gen.verify import verify` was the way before `zoo_gen.verify` was a function.
sys.modules["zoo_gen.verify"] = _Moved("zoo_gen.verify")
sys.modules["zoo_gen.verify"].__spec__ = ModuleSpec("zoo_gen.verify", None)
