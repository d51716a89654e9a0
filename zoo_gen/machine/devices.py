"""The devices of this machine: which names are valid, which is current, and where kernels of our own can run.

torch is imported only where a GPU is asked about, and what compiles kernels for CPUs only where that is asked.
"""

import importlib
import importlib.util
import re
from contextlib import AbstractContextManager, nullcontext
from functools import cache

from zoo_gen.errors import ZooError, argument, shown

OLDEST_GPU = 8  # compute capability from which there are bfloat16 and tf32


def check_device(device: str) -> None:
    """Refuse a device that this machine does not have.

    Raises:
        ZooError: it is not "cpu", "cuda", "cuda:N" or "cuda:N,M", or there is no such GPU.
    """
    check_name(device)
    if device != "cpu":
        _numbers(device)


def check_name(device: str) -> None:
    """Refuse what is no name of a device: "cpu", "cuda", "cuda:N" or "cuda:N,M"; it need not be there.

    Raises:
        ZooError: it is none.
    """
    if not isinstance(device, str) or not re.fullmatch(r"cpu|cuda(:\d+(,\d+)*)?", device):
        raise ZooError(f"device {shown(device)}: expected cpu, cuda (all GPUs), cuda:N or cuda:N,M")


def resolve(device: str) -> tuple[str, ...]:
    """Return the devices that a name stands for: "cpu", or each GPU as "cuda:N"; "cuda" stands for all GPUs.

    Raises:
        ZooError: there is no such device, or its GPUs are of several kinds, on which the last bits differ.
    """
    check_name(device)
    if device == "cpu":
        return ("cpu",)
    import torch

    numbers = _numbers(device)
    of_kind: dict[str, list[int]] = {}
    for number in numbers:
        of_kind.setdefault(torch.cuda.get_device_name(number), []).append(number)
    if len(of_kind) > 1:
        kinds = " and ".join(f"{name} ({', '.join(map(str, alike))})" for name, alike in of_kind.items())
        most = max(of_kind.values(), key=len)
        raise ZooError(
            f"device {device!r}: GPUs of several kinds, {kinds}, on which the last bits of a zoo differ; expected "
            f"those of one kind, such as {argument('device', 'cuda:' + ','.join(map(str, most)))}"
        )
    return tuple(f"cuda:{number}" for number in numbers)


def kind_of(device: str) -> str:
    """Return the kind of a device, without its number.

    >>> kind_of("cuda:1")
    'cuda'
    """
    return device.partition(":")[0]


def _numbers(device: str) -> list[int]:
    """Return the numbers of the GPUs that a name stands for, rising.

    Raises:
        ZooError: there is no such GPU.
    """
    import torch

    count = torch.cuda.device_count()
    _, _, listed = device.partition(":")
    numbers = sorted({int(number) for number in listed.split(",")}) if listed else list(range(max(count, 1)))
    if numbers[-1] >= count:
        choices = f"; there are cuda:0 to cuda:{count - 1}" if count > 1 else ""
        raise ZooError(
            f"device {device!r}: torch {torch.__version__} sees {count} CUDA devices{choices}; expected one that is "
            f"there, or {argument('device', 'cpu')}"
        )
    return numbers


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
