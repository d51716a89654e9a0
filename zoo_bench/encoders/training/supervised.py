"""SupervisedEncoder: an encoder that is a network trained on a target, whatever the network.

It learns the target of the problem that `fit` is told, from all rows of training views that may differ in layout. The
module that is trained reads a batch as offsets into the numbers of all networks, beside a plan of what lies there.
"""

import hashlib
import json
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from zoo_bench.encoders.rows import blocks, in_canonical_blocks
from zoo_bench.encoders.saving import read_encoder, write_encoder
from zoo_bench.encoders.training import loop as training_loop
from zoo_bench.encoders.training.checks import check_one_layout, check_target, check_views
from zoo_bench.encoders.training.loop import Purpose, TrainingSettings, seeded
from zoo_bench.encoders.training.networks import Networks
from zoo_bench.encoders.training.output import Output
from zoo_bench.encoders.training.runtime import Runtime
from zoo_bench.encoders.training.targets import DEFAULT_PROBLEM, Labels, can_learn, selecting
from zoo_bench.protocol.problem import Problem
from zoo_bench.protocol.views import SelectionViews, TrainingView, Weighted
from zoo_gen.errors import ZooError

WARM_UP_SHARE = 0.1  # of all steps, where a zoo is too small for the warm-up that is asked for
BLOCK = {"cpu": 32, "cuda": 512}  # networks that are encoded together
SETTLING = 1024  # training networks at most whose embeddings a module settles on
FEW = 128  # of them where steps are counted

Rows = Callable[[Any], np.ndarray]  # of a view, the numbers that are read, float32 (model, checkpoint, number)
Plans = Callable[[np.ndarray], Any]  # from the layout of each network of a batch, int64 (network,)
Facts = dict[str, Any]


@dataclass(frozen=True)
class Step:
    """What an augmentation may look at, and a penalty beside embeddings and logits."""

    module: nn.Module
    plan: Any
    facts: Facts
    networks: Networks
    layouts: np.ndarray  # int64 (network,), of the batch
    offsets: Tensor  # int64 (network,), of the batch
    generator: torch.Generator


class SupervisedEncoder:
    """A network that is trained on a target, with its embeddings and predictions of other views.

    Args:
        name: of the encoder, for messages and files.
        source: the function that makes the encoder; its module, with what it imports, determines the encoder's digest.
        training: how; a warm-up longer than a tenth of all steps is cut to that.
        settings: of the network, as plain data.
        facts: reads from the training networks what the module is built from beside settings, as plain data; their
            `elements`, if they name them, are what a bounded number of steps counts of a network, not its numbers.
        build: makes the module from these facts. The module maps (plan, numbers, offsets) to embeddings
            (network, dimension) and logits (network,); where the target is a name, the facts say how many `outputs`
            there are, and logits are (network, output).
        plans: makes the plans of batches over some layouts, from facts, layouts and device; without, plans are None.
        architecture: of a view, what stands in the place of its layout in networks and plans; the same for all views
            of one architecture, and hashable. Without, it is the layout.
        augment: gives the networks that a step learns from, their numbers and where each begins; without, they are
            those of the batch.
        penalty: an addition to the loss.
        settle: what the module keeps of the embeddings of its training networks (network, dimension), such as their
            mean: set from at most SETTLING of them before each validation, so that it fits the state that is scored.
        rows: of a view, what is read of it, instead of its weights.
        facts_of_views: facts that the training views tell and their numbers do not, such as the networks' layers.
        fixed_length: whether all networks must have one layout; then the facts name their `numbers`.
        runtime: where to compute.
    """

    def __init__(
        self,
        name: str,
        *,
        source: Callable[..., "SupervisedEncoder"],
        training: TrainingSettings,
        settings: Mapping[str, Any],
        facts: Callable[[Networks], Facts],
        build: Callable[[Facts], nn.Module],
        plans: Callable[[Facts, Sequence[Any], torch.device], Plans] | None = None,
        architecture: Callable[[Any], Hashable] | None = None,
        augment: Callable[[Step], tuple[Tensor, Tensor]] | None = None,
        penalty: Callable[[Step, Tensor, Tensor], Tensor] | None = None,
        settle: Callable[[Any, Tensor], None] | None = None,
        rows: Rows | None = None,
        facts_of_views: Callable[[Sequence[Any]], Facts] | None = None,
        fixed_length: bool = False,
        runtime: Runtime | None = None,
    ) -> None:
        self.name, self.training = name, training
        self.runtime = runtime or Runtime()
        self.source = source
        self._settings = dict(settings)
        self._facts_of_views = facts_of_views
        self.needs: tuple[str, ...] = ()  # what its views must give beside weights: "forward", "graphs"
        self._find_facts, self._build, self._augment, self._penalty = facts, build, augment, penalty
        self._settle = settle
        self._plans, self._rows, self._fixed_length = plans, rows, fixed_length
        self._architecture = architecture or (lambda view: view.layout)
        self._fitted: _Fitted | None = None

    @property
    def config(self) -> dict[str, Any]:
        """The settings as plain data, and once fitted the target that `predict` predicts, and facts of the zoo."""
        return {**self._unfitted_config, "fitted": self._fitted.described} if self._fitted else self._unfitted_config

    @property
    def parameter_count(self) -> int | None:
        """How many numbers training set, the head's too; None before."""
        return sum(parameter.numel() for parameter in self._fitted.module.parameters()) if self._fitted else None

    @property
    def _unfitted_config(self) -> dict[str, Any]:
        return {**self._settings, "training": self.training.config}

    def can_learn(self, problem: Problem) -> bool:
        """Say whether `fit` can learn a problem: one with a target, a number or a name."""
        return can_learn(problem)

    def fit(
        self,
        train: Sequence[TrainingView],
        validation: SelectionViews,
        *,
        problem: Problem = DEFAULT_PROBLEM,
        seed: int,
    ) -> Self:
        """Train the network on the problem's target and keep the state with the best validation score.

        Rows of the views without a value of the target are left out; `config` says how many.

        Raises:
            ZooError: the views do not suit the encoder; nothing has been trained then.
        """
        views = [*train, *validation]
        check_views(self.name, train, validation)
        if self._fixed_length:
            check_one_layout(self.name, views)
        facts_of_views = self._facts_of_views(views) if self._facts_of_views else {}
        labels, problem = Labels.of(self.name, problem, train), selecting(problem, validation)
        targets = labels.values
        check_target(self.name, problem.target, targets)
        output = Output.of(self.name, problem, targets)
        device = self.runtime.torch_device()
        rows = [self._read(view)[mask] for view, mask in zip(train, labels.present, strict=True)]
        networks = Networks.of([self._architecture(view) for view in train], rows, device)
        others = Networks.of(
            [self._architecture(view) for view in validation], [self._read(view) for view in validation], device
        )
        facts = self._find_facts(networks) | facts_of_views | output.facts
        plans, plans_of_others = (self._make_plans(facts, part.layouts, device) for part in (networks, others))
        with seeded(seed, Purpose.INITIALIZATION):
            module = self._build(facts).to(device)
        target_tensor = output.encoded(targets).to(device)
        n_logits = output.n_logits
        one_layout = len(networks.layouts) == 1

        def loss(samples: Tensor, generator: torch.Generator) -> Tensor:
            # With one layout nothing but the number of samples is needed on the host, so no step waits for the device.
            layouts = np.zeros(len(samples), np.int64) if one_layout else networks.layout_of[samples.cpu().numpy()]
            step = Step(module, plans(layouts), facts, networks, layouts, networks.offsets[samples], generator)
            numbers, offsets = self._augment(step) if self._augment else (networks.numbers, step.offsets)
            embeddings, logits = module(step.plan, numbers, offsets)
            value = output.loss_of(logits, target_tensor[samples])
            return value if self._penalty is None else value + self._penalty(step, embeddings, logits)

        numbers = facts.get("elements", networks.numbers_each)
        settings = self._training(len(targets), numbers=numbers, graph=one_layout)
        # A training of few steps settles and validates on few networks, or these would take longer than its steps.
        settling = networks.part(_spread(len(targets), FEW if settings.steps else SETTLING))
        read = max(settings.batch_size * settings.epoch_steps(len(targets)), FEW) if settings.steps else None
        scored_rows = _spread(len(others.offsets), read)
        scored = others.part(scored_rows)

        def score() -> float:
            if self._settle is not None:
                self._settle(module, torch.from_numpy(_apply(module, settling, plans)[:, :-n_logits]).to(device))
            logits = _apply(module, scored, plans_of_others)[:, -n_logits:].astype(np.float64)
            return problem.validation_score(output.values(logits), rows=scored_rows)

        training_loop.train(
            module,
            loss,
            score=score,
            n_samples=len(targets),
            settings=settings,
            seed=seed,
            identity={"name": self.name, "config": self._unfitted_config, "data": _data(views, labels)},
            runtime=self.runtime,
            name=self.name,
        )
        left_out = {"train": labels.left_out, "validation": problem.selection.left_out if problem.selection else 0}
        self._fitted = _Fitted(module, facts, output, problem.target, left_out)
        return self

    def encode(self, view: Weighted) -> np.ndarray:
        """Return the embeddings of a view, float32 (model x checkpoint, dimension).

        Raises:
            ZooError: nothing was fitted, or the view has another layout than a fixed-length encoder was fitted to.
        """
        return np.ascontiguousarray(self._apply(view)[:, : -self._of_fitted().output.n_logits])

    def predict(self, view: Weighted) -> np.ndarray:
        """Return the predicted target of a view (model x checkpoint,): float64 in its units, or names.

        Raises:
            ZooError: as `encode`.
        """
        output = self._of_fitted().output
        return output.values(self._apply(view)[:, -output.n_logits :].astype(np.float64))

    def save(self, folder: Path) -> None:
        """Write the fitted encoder as weights.safetensors and encoder.json.

        Raises:
            ZooError: nothing was fitted.
        """
        fitted = self._of_fitted()
        description = {
            "config": self._unfitted_config,
            "facts": fitted.facts,
            "output": asdict(fitted.output),
            "target": fitted.target,
            "left_out": fitted.left_out,
        }
        write_encoder(folder, self.name, fitted.module.state_dict(), description)

    def load(self, folder: Path) -> Self:
        """Read what `save` wrote; it encodes as before.

        Raises:
            ZooError: it cannot be read, or was saved by an encoder with other settings.
        """
        tensors, description = read_encoder(folder, self.name)
        if description["config"] != json.loads(json.dumps(self._unfitted_config)):
            raise ZooError(f"{folder}: was saved with other settings; expected {self.name} made with those it names")
        module = self._build(description["facts"])
        module.load_state_dict(tensors)
        module.to(self.runtime.torch_device()).eval()
        output = Output(**description["output"] | {"names": tuple(description["output"].get("names", ()))})
        self._fitted = _Fitted(module, description["facts"], output, description["target"], description["left_out"])
        return self

    def _apply(self, view: Weighted) -> np.ndarray:
        """Return embeddings and logits of a view (model x checkpoint, dimension + logits)."""
        fitted = self._of_fitted()
        rows = self._read(view)
        if self._fixed_length and rows.shape[1] != fitted.facts["numbers"]:
            raise ZooError(
                f"{self.name}: was fitted to networks of {fitted.facts['numbers']:,} numbers, got {rows.shape[1]:,}; "
                "expected the same architecture, or an encoder that mixes them, such as sne or pooled_layer_statistics"
            )
        device = next(fitted.module.parameters()).device
        architecture = self._architecture(view)
        plans = self._make_plans(fitted.facts, [architecture], device)

        def compute(block: np.ndarray) -> np.ndarray:
            return _apply(fitted.module, Networks.of([architecture], [block], device), plans)

        return in_canonical_blocks(rows, compute, size=BLOCK[device.type])

    def _of_fitted(self) -> "_Fitted":
        if self._fitted is None:
            raise ZooError(f"{self.name}: was not fitted; expected fit or load first")
        return self._fitted

    def _make_plans(self, facts: Facts, layouts: Sequence[Any], device: torch.device) -> Plans:
        return self._plans(facts, layouts, device) if self._plans else lambda layouts: None

    def _read(self, view: Weighted) -> np.ndarray:
        """Return what is read of a view, float32 (model x checkpoint, number)."""
        rows = view.weights if self._rows is None else self._rows(view)
        return np.ascontiguousarray(rows.reshape(-1, rows.shape[2]), dtype=np.float32)

    def _training(self, n_samples: int, *, numbers: float, graph: bool) -> TrainingSettings:
        settings = self.training.of_samples(numbers)
        steps = settings.epochs * settings.epoch_steps(n_samples)
        warm_up = min(settings.warm_up_steps, int(WARM_UP_SHARE * steps))
        return replace(settings, warm_up_steps=warm_up, graph=graph and settings.graph)


@dataclass(frozen=True)
class _Fitted:
    module: nn.Module
    facts: Facts
    output: Output
    target: str | None
    left_out: dict[str, int]  # rows without a value of the target: train, validation

    @property
    def described(self) -> dict[str, Any]:
        return {"target": self.target, "loss": self.output.loss, "left_out": self.left_out, **self.facts}


def _apply(module: nn.Module, networks: Networks, plans: Plans) -> np.ndarray:
    """Return embeddings and, behind them, logits of all networks (network, dimension + logits), a block at a time.

    The module must be in evaluation mode.
    """
    count = len(networks.offsets)
    size = BLOCK[networks.offsets.device.type]
    parts = []
    with torch.no_grad():
        for block in blocks(count, size):
            some = networks.part(block)
            # Not through __call__: a module compiled for training would be compiled again for every shape here.
            embeddings, logits = module.forward(plans(some.layout_of), some.numbers, some.offsets)
            parts.append(torch.cat([embeddings.float(), logits.float().view(len(logits), -1)], dim=1))
    return torch.cat(parts)[:count].cpu().numpy()


def _spread(count: int, most: int | None) -> np.ndarray:
    """Return at most so many of the numbers 0 to count - 1, spread evenly, int64."""
    return np.arange(count) if most is None or most >= count else np.arange(most) * count // most


def _data(views: Sequence[Weighted], labels: Labels) -> str:
    """Return the SHA-256 (hex) of weights and labels: it tells a training on these from any other."""
    digest = hashlib.sha256()
    for array in [*(view.weights for view in views), labels.values]:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
