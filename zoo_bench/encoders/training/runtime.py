"""Runtime settings of neural encoders: the device, and where checkpoints of unfinished trainings are written.

It is no part of an encoder's settings: a result names what was computed, not where. Nothing here imports
torch until a device is asked for, so that commands start fast.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zoo_gen.machine.devices import check_device, check_name, resolve

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Runtime:
    """Where and how to compute.

    Attributes:
        device: "auto" (GPUs if torch sees any), "cpu", "cuda", "cuda:N" or "cuda:N,M". Of several, cells that are
            evaluated at the same time have one each; a single cell has the first.
        checkpoints: the folder of trainings, each resumed from there by the same command; None keeps none. A finished
            one stays until whoever asked for it removes it, as the evaluation of a cell does once it is written.
        checkpoint_seconds: at most so often is one written (at the end of an epoch).
        compile: whether a training on a GPU may spend a minute on torch.compile.
        cpu_bfloat16: whether what trains in bfloat16 on a GPU does so on a CPU too, which is faster where the CPU has
            instructions for it.
    """

    device: str = "auto"
    checkpoints: Path | None = None
    checkpoint_seconds: float = 60.0
    compile: bool = True
    cpu_bfloat16: bool = False

    def __post_init__(self) -> None:
        """Refuse what is no name of a device, without a look whether it is there: that would import torch.

        Raises:
            ZooError: it is none.
        """
        check_name("cpu" if isinstance(self.device, str) and self.device == "auto" else self.device)

    def torch_device(self) -> "torch.device":
        """Return the device, a GPU as torch's current one; in a process started by torchrun, this process's own GPU.

        Graphs are captured and Triton's kernels launched on the current GPU, wherever the tensors lie.

        Raises:
            ZooError: the name is none, or torch does not see that device.
        """
        import torch

        name = self._named()
        if name == "cuda":
            name = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        check_device(name)
        device = torch.device(name.partition(",")[0])
        if device.type == "cuda":
            torch.cuda.set_device(device)
        return device

    def devices(self) -> tuple[str, ...]:
        """Return all devices, each GPU as "cuda:N", for processes that share them out.

        Raises:
            ZooError: the name is none, torch does not see such a device, or the GPUs are of several kinds.
        """
        return resolve(self._named())

    def _named(self) -> str:
        if self.device != "auto":
            return self.device
        import torch

        return "cuda" if torch.cuda.is_available() else "cpu"


def process_count() -> int:
    """Return how many processes train together: 1, unless torchrun started more."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first_process() -> bool:
    """Say whether this process is the one that writes and speaks for all that train together."""
    return os.environ.get("RANK", "0") == "0"
