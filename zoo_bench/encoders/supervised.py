"""Regression: what all supervised neural encoders share - reading targets, loss, selection, prediction, files.

A supervised encoder learns one target, which its configuration names, from training views that may differ in layout.
All networks lie one after another in one flat array on the device; a batch is a list of offsets into it, so no weights
travel and no batch is padded to the longest network.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional

from zoo_bench.encoders.inputs import check_one_layout, check_target, check_views
from zoo_bench.encoders.runtime import Runtime
from zoo_bench.encoders.training import Purpose, TrainingSettings, seeded, train
from zoo_gen.errors import ZooError
from zoo_gen.layout import ParameterLayout
from zoo_gen.zoo import METRICS, ZooView

WARM_UP_SHARE = 0.1  # of all steps, where a zoo is too small for the warm-up that is asked for
NUMBERS_AT_ONCE = 2**22  # that one batch of encode reads

Checkpoints = Literal["last", "all"]
LossName = Literal["auto", "bce", "mse"]
Rows = Callable[[ZooView], np.ndarray]  # of a view, the numbers that are read, float32 (model, checkpoint, number)
Plans = Callable[[np.ndarray], Any]  # of the layout of each network of a batch, int64 (network,), what the module needs


@dataclass(frozen=True)
class Problem:
    """What is learned from which checkpoints.

    Attributes:
        target: a metric of the zoo, "epoch", or a hyper-parameter that is a number.
        checkpoints: of each training model, the last one or all of them.
        loss: binary cross-entropy with soft targets, squared error of the standardised target, or "auto": the first
            where all training targets lie in 0 to 1.
    """

    target: str = "test_accuracy"
    checkpoints: Checkpoints = "last"
    loss: LossName = "auto"


@dataclass(frozen=True)
class Output:
    """How logits and targets belong together."""

    loss: Literal["bce", "mse"]
    mean: float = 0.0
    deviation: float = 1.0

    @classmethod
    def of(cls, name: str, problem: Problem, targets: np.ndarray) -> "Output":
        """Return the output for training targets (sample,).

        Raises:
            ZooError: a cross-entropy is asked for of targets that are no shares.
        """
        shares = bool(((targets >= 0) & (targets <= 1)).all())
        if problem.loss == "bce" and not shares:
            raise ZooError(
                f"{name}: loss 'bce' needs a target from 0 to 1, but {problem.target} reaches from {targets.min():g} to "
                f"{targets.max():g}; expected loss 'mse' or 'auto'"
            )
        if problem.loss == "bce" or (problem.loss == "auto" and shares):
            return cls("bce")
        return cls("mse", float(targets.mean()), float(targets.std()))

    def loss_of(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of logits and targets, both (network,)."""
        if self.loss == "bce":
            return functional.binary_cross_entropy_with_logits(logits, targets)
        return functional.mse_loss(logits, (targets - self.mean) / self.deviation)

    def values(self, logits: np.ndarray) -> np.ndarray:
        """Return predictions in the target's units (network,)."""
        if self.loss == "bce":
            return 1 / (1 + np.exp(-logits))
        return logits * self.deviation + self.mean

    def score(self, logits: np.ndarray, targets: np.ndarray) -> float:
        """Return what the validation maximises: Kendall's tau-b of the ranks, or minus the mean squared error."""
        if self.loss == "bce":
            tau = float(stats.kendalltau(logits, targets).statistic)
            return tau if np.isfinite(tau) else -1.0
        return -float(np.mean((self.values(logits) - targets) ** 2))


@dataclass(frozen=True)
class Networks:
    """Networks of several layouts, one after another on the device."""

    layouts: tuple[ParameterLayout, ...]
    layout_of: np.ndarray  # int64 (network,)
    numbers: Tensor  # float32 (number,)
    offsets: Tensor  # int64 (network,)

    @classmethod
    def of(cls, layouts: Sequence[ParameterLayout], rows: Sequence[np.ndarray], device: torch.device) -> "Networks":
        """Lay rows (network, number), an array a layout, one after another; a layout may come several times."""
        known = tuple(dict.fromkeys(layouts))
        layout_of = np.repeat([known.index(layout) for layout in layouts], [len(its) for its in rows])
        lengths = np.repeat([its.shape[1] for its in rows], [len(its) for its in rows])
        numbers = torch.from_numpy(np.concatenate([its.reshape(-1) for its in rows]))
        offsets = torch.from_numpy(np.cumsum(lengths) - lengths)
        return cls(known, layout_of.astype(np.int64), numbers.to(device), offsets.to(device))


def target_values(view: ZooView, target: str) -> np.ndarray:
    """Return a target at every checkpoint of a view, float64 (model, checkpoint).

    Raises:
        ZooError: the zoo has no such column, or it is no number.
    """
    shape = (len(view.models), len(view.checkpoints))
    if target == "epoch":
        values = np.broadcast_to(view.epochs, shape)
    elif target in METRICS:
        values = view.metric(target)
    else:
        values = np.broadcast_to(view.hyperparameter(target)[:, None], shape)
    if values.ndim != 2 or not (np.issubdtype(values.dtype, np.number) or values.dtype == bool):
        raise ZooError(f"target {target!r}: is not one number a checkpoint; expected a metric, epoch or a number")
    return values.astype(np.float64)


def read_targets(name: str, views: Sequence[ZooView], problem: Problem) -> np.ndarray:
    """Return the targets of the checkpoints that are learned from (sample,), the views one after another.

    Raises:
        ZooError: one is missing, or all are the same.
    """
    values = np.concatenate([selected(target_values(view, problem.target), problem).reshape(-1) for view in views])
    check_target(name, problem.target, values)
    return values


def selected(values: np.ndarray, problem: Problem) -> np.ndarray:
    """Return the checkpoints that are learned from (model, checkpoint, ...)."""
    return values[:, -1:] if problem.checkpoints == "last" else values


class Regression:
    """A network that is trained on a target, and what it then says of other views.

    Args:
        name: of the encoder, for messages.
        problem: what is learned.
        training: how; a warm-up longer than a tenth of all steps is cut to that.
        fixed_length: whether all networks must have one layout.
        rows: of a view, what is read of it.
    """

    def __init__(
        self,
        name: str,
        problem: Problem,
        training: TrainingSettings,
        *,
        fixed_length: bool,
        rows: Rows = lambda view: view.weights,
    ) -> None:
        self.name, self.problem, self.training = name, problem, training
        self._fixed_length, self._rows = fixed_length, rows
        self.module: nn.Module | None = None
        self.output = Output("mse")

    def fit(
        self,
        train_views: Sequence[ZooView],
        validation_views: Sequence[ZooView],
        *,
        seed: int,
        runtime: Runtime,
        config: dict[str, Any],
        build: Callable[[Networks], nn.Module],
        plans: Callable[[Sequence[ParameterLayout], torch.device], Plans],
        penalty: Callable[..., Tensor] | None = None,
    ) -> None:
        """Train a network and keep the state with the best validation score.

        Args:
            train_views: what it learns from.
            validation_views: what selects.
            seed: of all that is random.
            runtime: where to compute.
            config: of the encoder; tells this training from others.
            build: makes the module from the training networks. It maps (plan, numbers, offsets) to embeddings
                (network, dimension) and logits (network,).
            plans: makes plans for batches over some layouts.
            penalty: an addition to the loss, of (module, plan, networks, layout numbers, offsets, embeddings, logits,
                generator).

        Raises:
            ZooError: the views do not suit the encoder; nothing has been trained then.
        """
        views = [*train_views, *validation_views]
        check_views(self.name, train_views, validation_views)
        if self._fixed_length:
            check_one_layout(self.name, views)
        targets = read_targets(self.name, train_views, self.problem)
        # A constant target of the validation models is no reason to refuse them: it only cannot select by rank.
        validation_targets = np.concatenate(
            [selected(target_values(view, self.problem.target), self.problem).reshape(-1) for view in validation_views]
        )
        if not np.isfinite(validation_targets).all():
            raise ZooError(f"{self.name}: {self.problem.target} is missing for some validation models")
        device = runtime.torch_device()
        networks, validation = (
            Networks.of([view.layout for view in part], [self._selected_rows(view) for view in part], device)
            for part in (train_views, validation_views)
        )
        self.output = Output.of(self.name, self.problem, targets)
        with seeded(seed, Purpose.INITIALIZATION):
            module = build(networks).to(device)
        target_tensor = torch.from_numpy(targets.astype(np.float32)).to(device)
        make_plan = plans(networks.layouts, device)
        one_layout = len(networks.layouts) == 1

        def loss(samples: Tensor, generator: torch.Generator) -> Tensor:
            # With one layout nothing but the number of samples is needed on the host, so no step waits for the device.
            layouts = np.zeros(len(samples), np.int64) if one_layout else networks.layout_of[samples.cpu().numpy()]
            plan, offsets = make_plan(layouts), networks.offsets[samples]
            embeddings, logits = module(plan, networks.numbers, offsets)
            value = self.output.loss_of(logits, target_tensor[samples])
            if penalty is not None:
                value = value + penalty(module, plan, networks, layouts, offsets, embeddings, logits, generator)
            return value

        validation_plans = plans(validation.layouts, device)
        train(
            module,
            loss,
            score=lambda: self.output.score(self._apply(module, validation, validation_plans)[1], validation_targets),
            n_samples=len(targets),
            settings=self._settings(len(targets), graph=one_layout),
            seed=seed,
            identity=identity(config, views),
            runtime=runtime,
            name=self.name,
        )
        self.module = module

    def apply(
        self, view: ZooView, plans: Callable[[Sequence[ParameterLayout], torch.device], Plans]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return embeddings (model x checkpoint, dimension) and predictions (model x checkpoint,) of a view.

        Raises:
            ZooError: nothing was fitted yet.
        """
        if self.module is None:
            raise ZooError(f"{self.name}: was not fitted; expected fit or load before encode")
        device = next(self.module.parameters()).device
        rows = self._rows(view)
        networks = Networks.of([view.layout], [rows.reshape(-1, rows.shape[2])], device)
        embeddings, logits = self._apply(self.module, networks, plans(networks.layouts, device))
        return embeddings, self.output.values(logits)

    def _apply(self, module: nn.Module, networks: Networks, make_plan: Plans) -> tuple[np.ndarray, np.ndarray]:
        """Return embeddings and logits of all networks, a batch at a time; the module must be in evaluation mode."""
        count = len(networks.offsets)
        batch = max(1, NUMBERS_AT_ONCE * count // max(len(networks.numbers), 1) // 4)
        embeddings, logits = [], []
        with torch.no_grad():
            for start in range(0, count, batch):
                part = slice(start, start + batch)
                plan = make_plan(networks.layout_of[part])
                found = module(plan, networks.numbers, networks.offsets[part])
                embeddings.append(found[0].float())
                logits.append(found[1].double())
        return torch.cat(embeddings).cpu().numpy(), torch.cat(logits).cpu().numpy()

    def _selected_rows(self, view: ZooView) -> np.ndarray:
        rows = selected(self._rows(view), self.problem)
        return np.ascontiguousarray(rows.reshape(-1, rows.shape[2]), dtype=np.float32)

    def _settings(self, n_samples: int, *, graph: bool) -> TrainingSettings:
        batch = min(self.training.batch_size, n_samples)
        steps = self.training.epochs * (n_samples // batch)
        warm_up = min(self.training.warm_up_steps, int(WARM_UP_SHARE * steps))
        return replace(self.training, warm_up_steps=warm_up, graph=graph and self.training.graph)


def identity(config: dict[str, Any], views: Sequence[ZooView]) -> dict[str, Any]:
    """Return plain data that tells a training on these views from any other."""
    return {
        "config": config,
        "views": [[view.zoo.revision, view.models.tolist(), view.checkpoints.tolist()] for view in views],
    }
