"""Training checkpoints: the history of losses and scores, and the file from which a training is resumed.

The file of a training lies in a folder named by a digest of all that tells this training from others, so the same
command finds it again and no other training can.
"""

import hashlib
import io
import json
import logging
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo_gen.files import atomic

logger = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.pt"
# ReduceLROnPlateau as Schürholt et al. (NeurIPS 2021, public code) set it, on the training loss of each epoch.
PLATEAU_FACTOR, PLATEAU_PATIENCE, PLATEAU_THRESHOLD = 0.3, 10, 1e-4
LEAST_CHANGE = 1e-8  # of the learning rate; smaller ones are skipped


@dataclass
class History:
    """Losses and scores of a training so far: plain data, part of a checkpoint.

    Attributes:
        epochs: an entry a finished epoch: train_loss (mean over its steps) and, where it was validated, score.
        best_epoch: the epoch (from 1 on) with the best score; 0 before any.
        best_score: its score.
        worse_scores: validations since then.
        rate_factor: by which the plateau schedule multiplies the learning rate.
        lowest_loss: the training loss that the plateau schedule compares with.
        higher_losses: epochs in which it did not fall.
    """

    epochs: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    best_score: float = -math.inf
    worse_scores: int = 0
    rate_factor: float = 1.0
    lowest_loss: float = math.inf
    higher_losses: int = 0

    def add_loss(self, loss: float, *, learning_rate: float) -> None:
        """Add a finished epoch; lower the rate where the loss has not fallen for too long (mode min, relative)."""
        self.epochs.append({"train_loss": loss})
        if loss < self.lowest_loss * (1 - PLATEAU_THRESHOLD):
            self.lowest_loss, self.higher_losses = loss, 0
        else:
            self.higher_losses += 1
        if self.higher_losses > PLATEAU_PATIENCE:
            self.higher_losses = 0
            if learning_rate * self.rate_factor * (1 - PLATEAU_FACTOR) > LEAST_CHANGE:
                self.rate_factor *= PLATEAU_FACTOR

    def add_score(self, score: float) -> bool:
        """Add the validation score of the last epoch, and say whether it is the best."""
        self.epochs[-1]["score"] = score
        if score > self.best_score:
            self.best_epoch, self.best_score, self.worse_scores = len(self.epochs), score, 0
            return True
        self.worse_scores += 1
        return False


def checkpoint_folder(parent: Path | None, identity: Mapping[str, Any]) -> Path | None:
    """Return the folder of the training that `identity`, plain data, tells from all others; None without a parent."""
    if parent is None:
        return None
    content = json.dumps(dict(identity), sort_keys=True)
    return parent / hashlib.sha256(content.encode()).hexdigest()[:16]


def write_checkpoint(
    folder: Path, module: nn.Module, optimizer: torch.optim.Optimizer, history: History, best: dict[str, Tensor] | None
) -> None:
    """Write a checkpoint, so that a reader finds the one before or all of the new one."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "module": module.state_dict(),
        "optimizer": optimizer.state_dict()["state"],
        "history": asdict(history),
        "best": best,
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    atomic.replace(folder / CHECKPOINT, buffer.getvalue())


def read_checkpoint(
    folder: Path | None, module: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[History, dict[str, Tensor] | None]:
    """Read the checkpoint, if there is one, into module and optimiser; return its history and its best state."""
    path = folder / CHECKPOINT if folder else None
    if path is None or not path.exists():
        return History(), None
    device = next(module.parameters()).device
    content = torch.load(path, map_location=device, weights_only=True)
    module.load_state_dict(content["module"])
    optimizer.load_state_dict({"state": content["optimizer"], "param_groups": optimizer.state_dict()["param_groups"]})
    logger.info("%s: resumed after epoch %d", path, len(content["history"]["epochs"]))
    return History(**content["history"]), content["best"]
