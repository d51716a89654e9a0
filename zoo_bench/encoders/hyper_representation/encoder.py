"""The hyper-representation encoder: an autoencoder fitted to the weights of a zoo, without labels.

Schürholt, Kostadinov and Borth, "Self-Supervised Representation Learning on Neural Network Weights for Model
Characteristic Prediction" (NeurIPS 2021). docs/encoders/hyper_representation.md says what is theirs and what is ours.
"""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self, get_args

import numpy as np
import torch

from zoo_bench.encoders.digest import source_digest
from zoo_bench.encoders.hyper_representation.augment import Augmentation, Permutations
from zoo_bench.encoders.hyper_representation.configurations import SMALL, Configuration
from zoo_bench.encoders.hyper_representation.network import Autoencoder
from zoo_bench.encoders.hyper_representation.objective import LossName, Objective
from zoo_bench.encoders.hyper_representation.populations import paper_configuration
from zoo_bench.encoders.hyper_representation.standardization import Standardization
from zoo_bench.encoders.rows import in_canonical_blocks
from zoo_bench.encoders.saving import read_encoder, write_encoder
from zoo_bench.encoders.training import loop
from zoo_bench.encoders.training.checks import check_one_layout, check_views
from zoo_bench.encoders.training.loop import Purpose, TrainingSettings, seeded
from zoo_bench.encoders.training.progress import History
from zoo_bench.encoders.training.runtime import Runtime
from zoo_bench.protocol.views import SelectionViews, TrainingView, Weighted
from zoo_gen.architecture.layout import ParameterLayout
from zoo_gen.architecture.tokens import Tokens
from zoo_gen.errors import ZooError, unknown_name

KIND = "hyper_representation"
MIDDLE, SPREAD = "standardization.middle", "standardization.spread"  # tensors of a saved encoder
BLOCK = {"cpu": 64, "cuda": 2048}  # rows that are embedded together


def paper(loss: LossName) -> "Callable[[], HyperRepresentation]":
    """Return what makes the encoder that takes the paper's configuration for each zoo."""
    return partial(HyperRepresentation, loss=loss)


def short(loss: LossName) -> "Callable[[], HyperRepresentation]":
    """Return what makes the encoder of the paper's configurations with a tenth of their epochs."""
    return partial(HyperRepresentation, loss=loss, epochs_share=0.1)


def small(loss: LossName) -> "Callable[[], HyperRepresentation]":
    """Return what makes the encoder of the small configuration, for CPUs."""
    return partial(HyperRepresentation, loss=loss, configuration=SMALL)


def normalized(size: Literal["paper", "small"]) -> "Callable[[], HyperRepresentation]":
    """Return what makes the encoder E_cD of standardised weights, trained by what later papers came to.

    The sizes are the paper's for each zoo, or the small one's. The documentation shows what led to these settings.
    """
    settings = {"schedule": "cosine", "dropout": 0.0, "gamma": 0.05}
    if size == "paper":
        settings |= {"learning_rate": 5e-4, "steps": 3000}
    return partial(
        HyperRepresentation,
        configuration=SMALL if size == "small" else None,
        settings=settings,
        augmentation=Augmentation(noise=0.05),
        standardize=True,
        warm_up_share=0.05,
    )


@dataclass(frozen=True)
class Fitted:
    """What a training leaves."""

    module: Autoencoder
    configuration: Configuration
    layout: ParameterLayout
    standardization: Standardization | None = None


class HyperRepresentation:
    """A self-supervised encoder of the weights of one architecture.

    Args:
        loss: one of the four of the paper.
        configuration: sizes and schedule; without one, the paper's for the zoo (`paper_configuration`).
        epochs_share: the share of the configuration's epochs that it is trained for.
        augmentation: how views are made.
        target: what is reconstructed: the view as it is given ("augmented", as in the public code, erased zeros
            included), or the same view without noise and erasing ("clean").
        keep: the state with the best validation loss, or the last one.
        settings: fields of `Configuration` that take the place of the configuration's.
        standardize: whether weights are standardised tensor by tensor before they are augmented and reconstructed.
        warm_up_share: of all steps, in which the learning rate rises.

    Attributes:
        runtime: where to compute.
        history: how the last training went.
    """

    def __init__(
        self,
        *,
        loss: LossName = "E_cD",
        configuration: Configuration | None = None,
        epochs_share: float = 1.0,
        augmentation: Augmentation | None = None,
        target: Literal["augmented", "clean"] = "augmented",
        keep: Literal["best", "last"] = "best",
        settings: Mapping[str, Any] | None = None,
        standardize: bool = False,
        warm_up_share: float = 0.0,
    ) -> None:
        if loss not in get_args(LossName):
            raise ZooError(unknown_name("loss", loss, get_args(LossName)))
        known = [field.name for field in fields(Configuration)]
        for name in settings or ():
            if name not in known:
                raise ZooError(unknown_name("setting", name, known))
        self.loss = loss
        self.configuration = configuration
        self.epochs_share = epochs_share
        self.augmentation = augmentation or Augmentation()
        self.target = target
        self.keep = keep
        self.settings = dict(settings or {})
        self.standardize, self.warm_up_share = standardize, warm_up_share
        self.runtime = Runtime()
        self.history: History | None = None
        self._fitted: Fitted | None = None
        self._configurations: dict[str, dict[str, Any]] = {}  # zoo -> the configuration that it got

    @property
    def config(self) -> dict[str, Any]:
        """The settings as plain data; once fitted, also the configuration that each zoo got."""
        return {**self._settings, "fitted": self._configurations} if self._configurations else self._settings

    @property
    def parameter_count(self) -> int | None:
        """How many numbers training set, decoder and projection head too; None before."""
        return sum(parameter.numel() for parameter in self._fitted.module.parameters()) if self._fitted else None

    @property
    def _settings(self) -> dict[str, Any]:
        chosen = "the paper's, by zoo" if self.configuration is None else self.configuration.config
        return {
            "loss": self.loss,
            "configuration": chosen,
            "epochs_share": self.epochs_share,
            "augmentation": self.augmentation.config,
            "target": self.target,
            "keep": self.keep,
            "settings": self.settings,
            "standardize": self.standardize,
            "warm_up_share": self.warm_up_share,
        }

    def fit(self, train: Sequence[TrainingView], validation: SelectionViews, *, seed: int) -> Self:
        """Train an autoencoder, keeping the state with the least validation loss.

        Raises:
            ZooError: the views are empty, differ in architecture, or hold weights that are not finite.
        """
        check_views(KIND, train, validation)
        check_one_layout(KIND, [*train, *validation])
        zoo, layout = train[0].zoo.name, train[0].layout
        configuration, reason = (self.configuration, "given") if self.configuration else paper_configuration(train[0])
        configuration = replace(
            configuration, **{"epochs": math.ceil(self.epochs_share * configuration.epochs), **self.settings}
        )
        device = self.runtime.torch_device()
        with seeded(seed, Purpose.INITIALIZATION):
            module = Autoencoder(Tokens.of(layout), configuration).to(device)
        standardization = Standardization.of(_rows(train), layout) if self.standardize else None
        rows = _rows(train, standardization)
        objective = Objective(
            module,
            self.loss,
            train=torch.from_numpy(rows).to(device),
            validation=torch.from_numpy(_rows(validation, standardization)).to(device),
            configuration=configuration,
            augmentation=self.augmentation,
            permutations=Permutations(layout, device),
            target=self.target,
            seed=seed,
        )
        settings = TrainingSettings(
            epochs=configuration.epochs,
            steps=configuration.steps,
            most_numbers=configuration.most_tokens,
            batch_size=configuration.batch_size,
            learning_rate=configuration.learning_rate,
            optimizer="adam",
            weight_decay=configuration.weight_decay,
            schedule=configuration.schedule,
            evaluate_every=configuration.evaluate_every,
            keep=self.keep,
            graph=True,
        ).of_samples(Tokens.of(layout).count)
        steps = settings.epochs * settings.epoch_steps(len(rows))
        settings = replace(settings, warm_up_steps=int(self.warm_up_share * steps))
        data = hashlib.sha256(rows.tobytes()).hexdigest()
        identity = {"encoder": self._settings, "configuration": configuration.config, "data": data}
        self.history = loop.train(
            module,
            objective.loss,
            score=objective.score,
            n_samples=len(rows),
            settings=settings,
            seed=seed,
            identity={**identity, "source": source_digest(type(self))},
            runtime=self.runtime,
            name=f"{KIND} {self.loss} on {zoo}",
            whole=objective.comparison,
        )
        self._fitted = Fitted(module, configuration, layout, standardization)
        self._configurations[zoo] = {**configuration.config, "chosen": reason}
        return self

    def encode(self, view: Weighted) -> np.ndarray:
        """Return the embeddings before the projection head, float32 (model x checkpoint, latent), in (-1, 1).

        Raises:
            ZooError: nothing is fitted, or the view has another architecture than the fitted one.
        """
        fitted = self._require_fitted()
        if view.layout != fitted.layout:
            raise ZooError(
                f"{KIND}: fitted on an architecture of {fitted.layout.size:,} parameters, given one of "
                f"{view.layout.size:,}; expected the same architecture, or an encoder that mixes them, such as sne"
            )
        encoder = fitted.module.encoder
        device = encoder.bottleneck.weight.device

        def embed(rows: np.ndarray) -> np.ndarray:
            with torch.no_grad():
                return encoder(torch.from_numpy(rows).to(device)).cpu().numpy()

        return in_canonical_blocks(_rows([view], fitted.standardization), embed, size=BLOCK[device.type])

    def save(self, folder: Path) -> None:
        """Write the fitted encoder (autoencoder and head) as safetensors and JSON.

        Raises:
            ZooError: nothing is fitted.
        """
        fitted = self._require_fitted()
        description = {
            "loss": self.loss,
            "configuration": fitted.configuration.config,
            "augmentation": self.augmentation.config,
            "target": self.target,
            "keep": self.keep,
            "layout": fitted.layout.to_json(),
            "standardize": self.standardize,
        }
        tensors = dict(fitted.module.state_dict())
        if fitted.standardization is not None:
            arrays = {MIDDLE: fitted.standardization.middle, SPREAD: fitted.standardization.spread}
            tensors |= {name: torch.from_numpy(array) for name, array in arrays.items()}
        write_encoder(folder, KIND, tensors, description)

    def load(self, folder: Path) -> Self:
        """Become the encoder that `save` wrote; it embeds exactly as before on the same device.

        Raises:
            ZooError: the folder holds no such encoder.
        """
        tensors, description = read_encoder(folder, KIND)
        try:
            configuration = Configuration(**description["configuration"])
            layout = ParameterLayout.from_json(description["layout"])
            module = Autoencoder(Tokens.of(layout), configuration)
            self.standardize = description["standardize"]
            standardization = None
            if self.standardize:
                standardization = Standardization(tensors.pop(MIDDLE).numpy(), tensors.pop(SPREAD).numpy())
            module.load_state_dict(tensors)
            self.augmentation = Augmentation(**description["augmentation"])
            self.loss, self.target, self.keep = description["loss"], description["target"], description["keep"]
        except (KeyError, TypeError, RuntimeError) as error:
            raise ZooError(f"{folder}: does not fit a {KIND} ({error}); expected what save wrote") from None
        self.configuration, self.epochs_share, self.settings = configuration, 1.0, {}
        self._fitted = Fitted(module.to(self.runtime.torch_device()).eval(), configuration, layout, standardization)
        return self

    def _require_fitted(self) -> Fitted:
        if self._fitted is None:
            raise ZooError(f"{KIND}: nothing is fitted yet; expected fit or load first")
        return self._fitted


def _rows(views: Sequence[Weighted], standardization: Standardization | None = None) -> np.ndarray:
    """Return the weights of all checkpoints as rows, float32 (model x checkpoint, parameter), standardised if asked."""
    rows = np.concatenate([view.weights.reshape(-1, view.layout.size) for view in views])
    return rows if standardization is None else standardization.apply(rows)
