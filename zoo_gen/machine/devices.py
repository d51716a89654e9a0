"""The devices of this machine: which names are valid, which is current, and where kernels of our own can run.

torch is imported only where a GPU is asked about, and what compiles kernels for CPUs only where that is asked.
"""

import importlib
import importlib.util
import re
from contextlib import AbstractContextManager, nullcontext
from functools import cache

from zoo_gen.errors import ZooError

OLDEST_GPU = 8  # compute capability from which there are bfloat16 and tf32


def check_device(device: str) -> None:
    """Refuse a device that this machine does not have.

    Raises:
        ZooError: it is not "cpu", "cuda" or "cuda:N", or there is no such GPU.
    """
    if device == "cpu":
        return
    if not re.fullmatch(r"cuda(:\d+)?", device):
        raise ZooError(f"device {device!r}: expected cpu, cuda or cuda:N")
    import torch

    count = torch.cuda.device_count()
    if int(device.partition(":")[2] or 0) >= count:
        raise ZooError(f"device {device!r}: torch {torch.__version__} sees {count} CUDA devices; expected --device cpu")


def current(device: str) -> AbstractContextManager[object]:
    """Make a GPU torch's current device inside: Triton launches kernels on that one, wherever their arrays lie."""
    if not device.startswith("cuda"):
        return nullcontext()
    import torch

    return torch.cuda.device(device)


def lacks_for_gpu_kernels(device: str) -> str | None:
    """Return why our kernels cannot run on a GPU, as a sentence without its full stop; None if they can."""
    import torch

    if not torch.cuda.is_available():
        return f"torch {torch.__version__} sees no GPU"
    if importlib.util.find_spec("triton") is None:
        return f"torch {torch.__version__} has no Triton"
    major, minor = torch.cuda.get_device_capability(device)
    if major < OLDEST_GPU:
        name = torch.cuda.get_device_name(device)
        return f"{name} has compute capability {major}.{minor}, kernels need {OLDEST_GPU}.0"
    return None


@cache
def can_compile() -> bool:
    """Return whether our kernels for CPUs can be compiled here: llvmlite is installed and fits this machine."""
    try:
        importlib.import_module("zoo_gen.machine.vector_code")
    except (ImportError, OSError):
        return False
    return True
