"""What an encoder is, and the encoders that come with the package.

An encoder is any object with the methods below; there is no base class. It turns weights into embeddings that are
then scored by probes, and may predict targets itself. It is fitted on training views and may select on validation
views; of the test models it sees nothing but weights, in `encode` and `predict`. Neural encoders import torch, so they
are named here and imported when they are made.
"""

import importlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, Self

import numpy as np

from zoo_bench.encoders.baselines.layer_statistics import LastLayerStatistics, PooledLayerStatistics
from zoo_bench.encoders.baselines.statistics import PCA, Weights, WeightStatistics
from zoo_bench.encoders.baselines.statistics_boosting import StatisticsBoosting
from zoo_bench.encoders.digest import encoder_digest
from zoo_bench.encoders.ranges import declared_ranges
from zoo_bench.encoders.settings import Setting, configured, settings_of, split_name
from zoo_bench.encoders.training.runtime import Runtime
from zoo_bench.protocol.problem import Problem
from zoo_bench.protocol.views import SelectionViews, TrainingView, WeightsView
from zoo_gen.errors import ZooError, one_line, unknown_name

__all__ = [
    "DEFAULT_ENCODERS",
    "ENCODERS",
    "GROUPS",
    "Encoder",
    "Lazy",
    "declared_ranges_of",
    "encoder_digest",
    "encoder_names",
    "encoder_settings",
    "fit_encoder",
    "learned_problems",
    "make_encoder",
]


class Encoder(Protocol):
    """Weights to embeddings.

    A supervised one has beside: `predict(view)`, which returns what it predicts of each row (row,), a number or a name.
    It is fitted once for each target of a benchmark that it can learn, and told which: its `fit` takes a parameter
    `problem`, and its method `can_learn(problem)`, if it has one, says whether it can learn that target. If its `fit`
    takes no `problem`, it learns the one target that `config["target"]` names.

    One that asks more of its views than weights names it in `needs`, such as ("forward",) or ("graphs",): where a zoo
    cannot give it, that is said before anything is trained.

    One that trains a network has beside: `runtime`, which `make_encoder` sets; `save(folder)` and `load(folder)`,
    which write and read the fitted encoder. Each fit happens in a process of its own, to which the encoder is pickled.
    """

    @property
    def config(self) -> dict[str, Any]:
        """The settings that determine what it does, as plain data."""

    def fit(self, train: Sequence[TrainingView], validation: Sequence[Any], *, seed: int) -> Self:
        """Learn from the training views, selecting on the validation views only; all randomness comes from `seed`.

        Validation views have no labels (zoo_bench.protocol.views.ValidationView): `problem.validation_score` scores
        predictions of their rows. An encoder that asks for their labels is fitted again, on a part of the training
        models, with the rest of these and their labels as its validation views.

        There is one view an architecture. All their rows are learned from: they hold the checkpoints that are tested.
        With a parameter `problem` (zoo_bench.protocol.problem.Problem) it is told what is asked; its `target` is None
        where the encoder predicts nothing, and `view.target(problem.target)` gives the labels.
        """

    def encode(self, view: WeightsView) -> np.ndarray:
        """Return one embedding a row of the weights (row, 1, parameter), float (row, dimension), in their order.

        The view has `weights` and `layout`, and shows them as tensors, graphs and networks that can be run (see
        docs/views.md): no label, no epoch, no model, no zoo.
        """


@dataclass(frozen=True)
class Lazy:
    """An encoder in a module that is imported when the encoder is made.

    Attributes:
        module: the module's full name.
        maker: a function or class in it that makes the encoder; with a variant, a function that returns one.
        variant: what that function is called with, if anything.
    """

    module: str
    maker: str
    variant: str | None = None

    def load(self) -> Callable[..., Encoder]:
        """Return what makes the encoder, whose arguments are its settings."""
        maker = getattr(importlib.import_module(self.module), self.maker)
        return maker if self.variant is None else maker(self.variant)

    def __call__(self) -> Encoder:
        """Return a fresh encoder."""
        return self.load()()


_HYPER_REPRESENTATION = "zoo_bench.encoders.hyper_representation.encoder"
_SNE = "zoo_bench.encoders.sne.encoder"
_NFN = "zoo_bench.encoders.nfn.encoder"
_GRAPHS = "zoo_bench.encoders.graph_network.encoder"
_SCALE_GRAPHS = "zoo_bench.encoders.scale_graph_network.encoder"
_PROBING = "zoo_bench.encoders.probing.encoder"
_SANE = "zoo_bench.encoders.sane.encoder"

ENCODERS: dict[str, Callable[[], Encoder]] = {
    "weights": Weights,
    "weight_statistics": partial(WeightStatistics, biases=True),
    "weight_statistics_without_biases": partial(WeightStatistics, biases=False),
    "pca": PCA,
    "last_layer_statistics": LastLayerStatistics,
    "pooled_layer_statistics": PooledLayerStatistics,
    "statistics_boosting": StatisticsBoosting,
    "statistics_network": Lazy("zoo_bench.encoders.baselines.statistics_network", "statistics_network"),
    "mlp": Lazy("zoo_bench.encoders.baselines.mlp", "mlp"),
    "deep_sets": Lazy("zoo_bench.encoders.baselines.deep_sets", "deep_sets"),
    "deep_sets_small": Lazy("zoo_bench.encoders.baselines.deep_sets", "small"),
    **{f"nfn_{name}": Lazy(_NFN, "variant", name) for name in ("np", "hnp", "np_small", "hnp_small")},
    "graph_network": Lazy(_GRAPHS, "graph_network"),
    "graph_network_small": Lazy(_GRAPHS, "small"),
    "scale_graph_network": Lazy(_SCALE_GRAPHS, "scale_graph_network"),
    "scale_graph_network_small": Lazy(_SCALE_GRAPHS, "small"),
    "probing": Lazy(_PROBING, "probing"),
    "probing_small": Lazy(_PROBING, "small"),
    "sane": Lazy(_SANE, "SANE"),
    "sane_small": Lazy(_SANE, "small"),
    "sne": Lazy(_SNE, "variant", "paper"),
    "sne_boundary": Lazy(_SNE, "variant", "boundary"),
    "sne_kernels": Lazy(_SNE, "variant", "kernels"),
    "sne_small": Lazy(_SNE, "variant", "small"),
    "sne_sine": Lazy(_SNE, "variant", "sine"),
    "sne_sine_flat": Lazy(_SNE, "variant", "sine_flat"),
    **{
        f"hyper_representation{size}{loss}": Lazy(_HYPER_REPRESENTATION, maker, variant)
        for size, maker in (("", "paper"), ("_short", "short"), ("_small", "small"))
        for loss, variant in (("", "E_cD"), ("_e_c", "E_c"), ("_ed", "ED"), ("_e_c_plus_d", "E_c+D"))
    },
    "hyper_representation_normalized": Lazy(_HYPER_REPRESENTATION, "normalized", "paper"),
    "hyper_representation_normalized_small": Lazy(_HYPER_REPRESENTATION, "normalized", "small"),
}
# Those that read networks of several architectures; the others cannot be tested on another than they were fitted to.
MIX_ARCHITECTURES = frozenset(
    {"last_layer_statistics", "pooled_layer_statistics", "deep_sets", "deep_sets_small", "sane", "sane_small"}
    | {name for name in ENCODERS if name.startswith(("sne", "graph_network", "scale_graph_network"))}
)
# Those that are told activation functions, which no benchmark allows that asks for them.
KNOW_FUNCTIONS = frozenset({"probing", "probing_small", "scale_graph_network", "scale_graph_network_small"})
# Evaluated where none is named: those that train no network, so that the first look at a zoo takes seconds.
DEFAULT_ENCODERS = ("weights", "weight_statistics", "weight_statistics_without_biases", "pca")
# What `--encoder` takes beside names: those of every kind that a CPU fits to a small zoo in about a minute.
GROUPS: dict[str, tuple[str, ...]] = {
    "default": DEFAULT_ENCODERS,
    "small": (
        *DEFAULT_ENCODERS,
        "last_layer_statistics",
        "pooled_layer_statistics",
        "statistics_boosting",
        "statistics_network",
        "mlp",
        "deep_sets_small",
        "nfn_np_small",
        "nfn_hnp_small",
        "graph_network_small",
        "scale_graph_network_small",
        "probing_small",
        "sane_small",
        "sne_small",
        "hyper_representation_small",
    ),
    "small_losses": tuple(name for name in ENCODERS if name.startswith("hyper_representation_small")),
}


def encoder_names(chosen: Sequence[str], *, protocol: str = "", targets: Sequence[str] = ()) -> list[str]:
    """Return the names of encoders, each once, groups written out: of a group only those that suit a benchmark.

    Args:
        chosen: names of encoders and groups.
        protocol: of the benchmark; in cross_architecture, encoders of one architecture are left out.
        targets: of the benchmark; where the activation function may be one, encoders that are told it are left out.

    >>> encoder_names(["default", "mlp", "pca"])
    ['weights', 'weight_statistics', 'weight_statistics_without_biases', 'pca', 'mlp']
    """
    suits = set(MIX_ARCHITECTURES if protocol == "cross_architecture" else ENCODERS)
    if {"activation", "hyperparameters"} & set(targets):
        suits -= KNOW_FUNCTIONS
    names = (
        name for choice in chosen for name in GROUPS.get(choice, (choice,)) if choice not in GROUPS or name in suits
    )
    return list(dict.fromkeys(names))


def make_encoder(name: str, *, runtime: Runtime | None = None) -> Encoder:
    """Return a fresh encoder: one of ENCODERS by name, or `package.module:Class`, called without arguments.

    Settings may stand in brackets behind the name. An encoder with an attribute `runtime` gets the one given, if any.

    Raises:
        ZooError: there is no such encoder, it lacks a method of the protocol, or a setting is not there or of another
            type.

    >>> import zoo_bench
    >>> zoo_bench.make_encoder("pca[dimension=20]").config
    {'dimension': 20}
    """
    base, settings = split_name(name)
    maker = configured(base, _maker(base), settings)
    encoder = maker() if base in ENCODERS else _checked(base, maker)
    if runtime is not None and hasattr(encoder, "runtime"):
        encoder.runtime = runtime
    return encoder


def encoder_settings(name: str) -> dict[str, Setting]:
    """Return the settings that an encoder takes, by name: one of ENCODERS, or `package.module:Class`.

    Raises:
        ZooError: there is no such encoder.

    >>> encoder_settings("pca")["dimension"].default
    50
    """
    return settings_of(_maker(split_name(name)[0]))


def declared_ranges_of(base: str) -> dict[str, str]:
    """Return the ranges of settings that a tuning searches if none are given, setting -> text."""
    return declared_ranges(base, _maker(base))


def _maker(base: str) -> Callable[..., Any]:
    """Return what makes an encoder, whose arguments are its settings.

    Raises:
        ZooError: there is no such encoder.
    """
    if base in ENCODERS:
        maker = ENCODERS[base]
        return maker.load() if isinstance(maker, Lazy) else maker
    if ":" not in base:
        raise ZooError(unknown_name("encoder", base, ENCODERS) + ", or package.module:Class")
    module_name, _, class_name = base.partition(":")
    try:
        return getattr(importlib.import_module(module_name), class_name)
    except (Exception, SystemExit) as error:  # a module may do anything when it is imported
        raise ZooError(
            f"encoder {base!r}: cannot be made ({one_line(error)}); expected package.module:Class"
        ) from error


def learned_problems(name: str, encoder: Any, problems: Sequence[Problem]) -> list[Problem]:
    """Return what an encoder is fitted to, a fit each: its targets among these, or one problem without a target.

    Args:
        name: of the encoder, for messages.
        encoder: any encoder.
        problems: one for each target of a benchmark.

    Raises:
        ZooError: it predicts, but can learn none of the targets, or nothing says which one it learns.
    """
    without_target = [replace(problems[0], target=None)]
    if not hasattr(encoder, "predict"):
        return without_target
    if not _takes_problem(encoder):
        if "target" not in encoder.config:
            raise ZooError(
                f"encoder {name!r}: has predict, and nothing says what it predicts; expected a fit that takes "
                "`problem`, or the one target that it learns as config['target']"
            )
        return [problem for problem in problems if problem.target == encoder.config.get("target")] or without_target
    learned = [problem for problem in problems if not hasattr(encoder, "can_learn") or encoder.can_learn(problem)]
    if not learned:
        targets = ", ".join(str(problem.target) for problem in problems)
        raise ZooError(f"encoder {name!r}: can learn none of the targets {targets}; expected one that it can")
    return learned


def fit_encoder(
    encoder: Any,
    train: Sequence[TrainingView],
    validation: SelectionViews,
    *,
    problem: Problem,
    seed: int,
) -> None:
    """Fit an encoder; it is told the problem if its `fit` takes one."""
    if _takes_problem(encoder):
        encoder.fit(train, validation, problem=problem, seed=seed)
    else:
        encoder.fit(train, validation, seed=seed)


def _takes_problem(encoder: Any) -> bool:
    parameters = inspect.signature(encoder.fit).parameters.values()
    return any(parameter.name == "problem" or parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)


def _checked(name: str, maker: Callable[[], Any]) -> Encoder:
    """Return somebody else's encoder, checked to have what the protocol asks for."""
    try:
        encoder = maker()
    except (Exception, SystemExit) as error:  # its code may do anything
        raise ZooError(
            f"encoder {name!r}: cannot be made ({one_line(error)}); expected package.module:Class"
        ) from error
    for method in ("fit", "encode", "config"):
        if not hasattr(encoder, method):
            raise ZooError(f"encoder {name!r}: has no {method!r}; expected fit, encode and config")
    return encoder
