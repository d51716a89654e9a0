"""The encoder `sane`: a sequence autoencoder fitted to windows of tokens of weights, without labels.

Schürholt, Mahoney and Borth, "Towards Scalable and Versatile Weight Space Learning" (ICML 2024). Its embedding is the
mean code of all tokens of a network, so that networks of any architecture have one. docs/encoders/sane.md says what is
theirs and what is ours.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from zoo_bench.encoders.digest import source_digest
from zoo_bench.encoders.rows import in_canonical_blocks
from zoo_bench.encoders.sane.network import SequenceAutoencoder
from zoo_bench.encoders.sane.objective import Objective
from zoo_bench.encoders.sane.settings import SMALL, SMALL_TRAINING, TRAINING, Settings
from zoo_bench.encoders.sane.standardization import LayerStandardization
from zoo_bench.encoders.sane.windows import Windows
from zoo_bench.encoders.saving import read_encoder, write_encoder
from zoo_bench.encoders.training import loop
from zoo_bench.encoders.training.checks import check_views
from zoo_bench.encoders.training.loop import Purpose, TrainingSettings, seeded
from zoo_bench.encoders.training.networks import Networks
from zoo_bench.encoders.training.progress import History
from zoo_bench.encoders.training.runtime import Runtime
from zoo_bench.protocol.views import TrainingView, Weighted, flat
from zoo_gen.architecture.layout import ParameterLayout
from zoo_gen.errors import ZooError

KIND = "sane"
BLOCK = {"cpu": 64, "cuda": 1024}  # networks that are embedded together
WARM_UP_SHARE = 0.1  # of all steps at most


def small(*, settings: Settings = SMALL, training: TrainingSettings = SMALL_TRAINING) -> "SANE":
    """Return the encoder in its small size, for CPUs."""
    return SANE(settings=settings, training=training)


@dataclass(frozen=True)
class Fitted:
    """What a training leaves."""

    module: SequenceAutoencoder
    standardization: LayerStandardization


class SANE:
    """A self-supervised encoder of weights, of any architectures together.

    Args:
        settings: of the autoencoder and its loss.
        training: how it is trained.

    Attributes:
        runtime: where to compute.
        history: how the last training went.

    >>> SANE(settings=Settings(width=32, heads=2)).config["width"]
    32
    """

    def __init__(self, *, settings: Settings | None = None, training: TrainingSettings = TRAINING) -> None:
        self.settings, self.training = settings or Settings(), training
        self.runtime = Runtime()
        self.history: History | None = None
        self._fitted: Fitted | None = None

    @property
    def config(self) -> dict[str, Any]:
        """The settings as plain data."""
        return {**asdict(self.settings), "training": self.training.config}

    @property
    def parameter_count(self) -> int | None:
        """How many numbers training set, decoder and projection head too; None before."""
        return sum(parameter.numel() for parameter in self._fitted.module.parameters()) if self._fitted else None

    def fit(self, train: Sequence[TrainingView], validation: Sequence[TrainingView], *, seed: int) -> Self:
        """Train an autoencoder on windows of all training networks, keeping the state with the least validation loss.

        Raises:
            ZooError: the views are empty, hold weights that are not finite, or units that cannot be reordered.
        """
        check_views(KIND, train, validation)
        device = self.runtime.torch_device()
        rows = [flat(view) for view in train]
        standardization = LayerStandardization.of([view.layout for view in train], rows)
        networks, selecting = (_networks(views, standardization, device) for views in (train, validation))
        with seeded(seed, Purpose.INITIALIZATION):
            module = SequenceAutoencoder(self.settings).to(device)
        objective = Objective(
            module,
            self.settings,
            train=networks,
            validation=selecting,
            batch_size=self.training.batch_size,
            seed=seed,
        )
        count = len(networks.offsets)
        steps = self.training.epochs * self.training.epoch_steps(count)
        settings = replace(
            self.training,
            warm_up_steps=min(self.training.warm_up_steps, int(WARM_UP_SHARE * steps)),
            graph=self.training.graph and len(networks.layouts) == 1,
        )
        data = [hashlib.sha256(part.numbers.cpu().numpy().tobytes()).hexdigest() for part in (networks, selecting)]
        self.history = loop.train(
            module,
            objective.loss,
            score=objective.score,
            n_samples=count,
            settings=settings,
            seed=seed,
            identity={"encoder": self.config, "data": data, "source": source_digest(type(self))},
            runtime=self.runtime,
            name=f"{KIND} on {train[0].zoo.name}",
        )
        self._fitted = Fitted(module, standardization)
        return self

    def encode(self, view: Weighted) -> np.ndarray:
        """Return the mean codes of all tokens, float32 (model x checkpoint, latent), of any architecture.

        Raises:
            ZooError: nothing is fitted.
        """
        fitted = self._require_fitted()
        device = fitted.module.compress.weight.device
        windows = Windows([view.layout], size=self.settings.token, most=self.settings.window, device=device)

        def embed(rows: np.ndarray) -> np.ndarray:
            networks = Networks.of([view.layout], [rows], device)
            zeros = torch.zeros(len(rows), dtype=torch.int64, device=device)
            total = torch.zeros(len(rows), self.settings.latent, device=device)
            with torch.no_grad():
                for start, counted in windows.covering():
                    window = windows.take(zeros, networks.numbers, networks.offsets, zeros + start)
                    # Not through __call__: a module compiled for training would be compiled again for these shapes.
                    latent, _ = fitted.module.forward(window, reconstruct=False)
                    total += latent[:, counted].sum(dim=1)
            return (total / windows.counts[0]).cpu().numpy()

        rows = fitted.standardization.apply(view.layout, flat(view))
        return in_canonical_blocks(rows, embed, size=BLOCK[device.type])

    def save(self, folder: Path) -> None:
        """Write the fitted encoder (autoencoder and head) as safetensors and JSON.

        Raises:
            ZooError: nothing is fitted.
        """
        fitted = self._require_fitted()
        description = {"config": self.config, "standardization": fitted.standardization.to_json()}
        write_encoder(folder, KIND, dict(fitted.module.state_dict()), description)

    def load(self, folder: Path) -> Self:
        """Become the encoder that `save` wrote; it embeds exactly as before on the same device.

        Raises:
            ZooError: the folder holds no such encoder, or one of other settings.
        """
        tensors, description = read_encoder(folder, KIND)
        if description.get("config") != json.loads(json.dumps(self.config)):
            raise ZooError(f"{folder}: was saved with other settings; expected {KIND} made with those it names")
        module = SequenceAutoencoder(self.settings)
        try:
            module.load_state_dict(tensors)
            standardization = LayerStandardization.from_json(description["standardization"])
        except (KeyError, TypeError, RuntimeError) as error:
            raise ZooError(f"{folder}: does not fit a {KIND} ({error}); expected what save wrote") from None
        self._fitted = Fitted(module.to(self.runtime.torch_device()).eval(), standardization)
        return self

    def _require_fitted(self) -> Fitted:
        if self._fitted is None:
            raise ZooError(f"{KIND}: nothing is fitted yet; expected fit or load first")
        return self._fitted


def _networks(views: Sequence[Weighted], standardization: LayerStandardization, device: torch.device) -> Networks:
    """Return the standardised networks of some views, one after another on the device."""
    layouts: list[ParameterLayout] = [view.layout for view in views]
    return Networks.of(layouts, [standardization.apply(view.layout, flat(view)) for view in views], device)
