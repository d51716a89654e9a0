"""Runtime settings of neural encoders: the device, and where checkpoints of unfinished trainings are written.

It is no part of an encoder's settings: a result names what was computed, not where. Nothing here imports
torch until a device is asked for, so that commands start fast.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zoo_gen.machine.devices import check_device

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Runtime:
    """Where and how to compute.

    Attributes:
        device: "auto" (a GPU if torch sees one), "cpu", "cuda" or "cuda:N".
        checkpoints: the folder of unfinished trainings; None keeps none.
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

    def torch_device(self) -> "torch.device":
        """Return the device; in a process started by torchrun, this process's own GPU.

        Raises:
            ZooError: the name is none, or torch does not see that device.
        """
        import torch

        name = self.device
        if name == "auto":
            name = "cuda" if torch.cuda.is_available() else "cpu"
        if name == "cuda":
            name = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        check_device(name)
        return torch.device(name)


def process_count() -> int:
    """Return how many processes train together: 1, unless torchrun started more."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first_process() -> bool:
    """Say whether this process is the one that writes and speaks for all that train together."""
    return os.environ.get("RANK", "0") == "0"
