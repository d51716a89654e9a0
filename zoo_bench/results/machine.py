"""The machine and the software that computed a result, so that its costs and last digits can be understood."""

import os
import platform
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from zoo_gen.files.schema import Schema

PACKAGES = ("zoo-gen", "numpy", "scipy", "scikit-learn", "torch")


class Machine(Schema):
    """A machine, as far as costs and the last digits of scores follow from it."""

    platform: str  # operating system, its version and the kind of processor
    processor: str
    cores: int  # that this process may use
    gpu: str = ""  # empty where none was used


def this_machine() -> Machine:
    """Return this machine, with the GPU that this process uses; torch is not imported to find it."""
    cuda = cuda_in_use()
    return Machine(
        platform=f"{platform.system()} {platform.release()} {platform.machine()}",
        processor=_processor(),
        cores=usable_cores(),
        gpu=str(cuda.get_device_name()) if cuda else "",
    )


def usable_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def software(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Return the versions of Python and of the packages that are installed."""
    versions = {"python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def cuda_in_use() -> Any:
    """Return torch.cuda if this process uses a GPU, else None; torch is not imported for that."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized() else None


def _processor() -> str:
    """Return the name of the processor; Linux alone tells it in a file."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
