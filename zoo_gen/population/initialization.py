"""Initial weights of many models at once, by the scheme that each model names.

They are drawn on the host in float64 and rounded once, so that every kind of device starts from the same weights.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from zoo_gen.architecture.layers import GroupNorm, LayerNorm, Normalization
from zoo_gen.architecture.layout import Parameter, ParameterLayout
from zoo_gen.architecture.modules import SINE_FREQUENCY
from zoo_gen.architecture.network import Network
from zoo_gen.manifest.hyperparameters import Initialization
from zoo_gen.population.random import Purpose, uniforms

# A normal distribution cut at two deviations has this deviation; Keras divides by it.
_CUT_DEVIATION = 0.87962566103423978


def initial_weights(
    layout: ParameterLayout,
    seeds: Tensor,
    schemes: Sequence[Initialization],
    *,
    deviations: Tensor,
    scales: Tensor,
    biases: Tensor,
    network: Network | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Return the weights (model, parameter) before training, on the CPU.

    Models of one seed share their underlying draws, whatever their scheme. The schemes are those of `torch.nn.init`
    with their defaults: `uniform` U(0, 1), `normal` and `truncated_normal` (cut at two deviations) with the model's
    own deviation, `kaiming_*` for ReLU by fan-in, `xavier_*` with gain 1, `orthogonal`; those of Keras, both cut
    normals, `glorot_normal` and `he_normal`; `siren` (Sitzmann et al., NeurIPS 2020, section 3.2); and `siren_dwsnets`,
    what the public code of DWSNets (Navon et al., ICML 2023) does: SIREN's bound of hidden layers in the first one
    too, and in the last one torch's own U(-1/sqrt(fan_in), 1/sqrt(fan_in)) for weights and bias. `module` is what the
    constructor of the plain module draws after `torch.manual_seed(seed)`, biases too.

    Normalisation draws nothing: its scales begin at 1 and its shifts at 0, whatever the scheme, as in torch.

    Args:
        layout: of the weights.
        seeds: int64 (model,).
        schemes: one a model.
        deviations: of `normal` and `truncated_normal`, (model,).
        scales: what the drawn weights are multiplied by, (model,).
        biases: what every bias begins at, (model,).
        network: of the models, whose module the scheme `module` makes; without it, no layer is a normalisation.
        dtype: of the result.
    """
    draws = uniforms(seeds, Purpose.WEIGHTS, 0, layout.size)
    weights = torch.empty_like(draws)
    deviations, scales, biases = (values.to(torch.float64).unsqueeze(1) for values in (deviations, scales, biases))
    fans_in = {p.layer: math.prod(p.shape[1:]) for p in layout.parameters if p.role == "weight"}
    norms = {e.name for e in network.layers if isinstance(e, Normalization | LayerNorm | GroupNorm)} if network else ()
    for scheme in sorted(set(schemes)):
        rows = torch.tensor([position for position, other in enumerate(schemes) if other == scheme])
        if scheme == "module":
            assert network is not None  # which everybody gives who lets models name that scheme
            weights[rows] = torch.stack([_of_module(network, int(seed)) for seed in seeds[rows]])
            weights[rows] *= torch.where(torch.from_numpy(layout.is_kernel), scales[rows], 1.0)
            continue
        for parameter in layout.parameters:
            columns = slice(parameter.start, parameter.stop)
            first, last = (parameter.layer == layout.layers[end] for end in (0, -1))
            if parameter.layer in norms:
                weights[rows, columns] = float(parameter.role == "weight")
                continue
            if parameter.role.startswith("bias"):
                weights[rows, columns] = biases[rows].expand(-1, parameter.size)
                if scheme == "siren_dwsnets" and last:
                    weights[rows, columns] += _torch_linear(draws[rows, columns], fans_in[parameter.layer])
                continue
            drawn = _drawn(scheme, draws[rows, columns], parameter, first=first, last=last)
            if scheme in ("normal", "truncated_normal"):
                drawn = drawn * deviations[rows]
            weights[rows, columns] = drawn * scales[rows]
    return weights.to(dtype)


def _drawn(scheme: Initialization, uniform: Tensor, parameter: Parameter, *, first: bool, last: bool) -> Tensor:
    """Turn uniform numbers (model, element) into weights of one parameter (outputs, inputs, ...)."""
    receptive_field = math.prod(parameter.shape[2:])
    fan_in, fan_out = parameter.shape[1] * receptive_field, parameter.shape[0] * receptive_field
    if scheme == "uniform":
        return uniform
    if scheme == "normal":
        return torch.special.ndtri(uniform)
    if scheme == "truncated_normal":
        return _cut_normal(uniform)
    if scheme == "orthogonal":
        return _orthogonal(torch.special.ndtri(uniform).view(-1, parameter.shape[0], fan_in))
    if scheme == "glorot_normal":
        return _cut_normal(uniform) * (math.sqrt(2.0 / (fan_in + fan_out)) / _CUT_DEVIATION)
    if scheme == "he_normal":
        return _cut_normal(uniform) * (math.sqrt(2.0 / fan_in) / _CUT_DEVIATION)
    if scheme == "siren_dwsnets" and last:
        return _torch_linear(uniform, fan_in)
    if scheme in ("siren", "siren_dwsnets"):
        bound = 1.0 / fan_in if scheme == "siren" and first else math.sqrt(6.0 / fan_in) / SINE_FREQUENCY
        return (2.0 * uniform - 1.0) * bound
    deviation = math.sqrt(2.0 / fan_in) if scheme.startswith("kaiming") else math.sqrt(2.0 / (fan_in + fan_out))
    if scheme.endswith("normal"):
        return torch.special.ndtri(uniform) * deviation
    return (2.0 * uniform - 1.0) * (math.sqrt(3.0) * deviation)


def _of_module(network: Network, seed: int) -> Tensor:
    """Return what the constructor of the plain module draws (parameter,)."""
    if network.own_module is not None:
        module = network.own_module.build(seed=seed)
    else:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            module = network.module(activation="relu")  # a function, which draws nothing
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()]).double()


def _torch_linear(uniform: Tensor, fan_in: int) -> Tensor:
    """Return what `torch.nn.Linear` draws for weights and biases, U(-1/sqrt(fan_in), 1/sqrt(fan_in))."""
    return (2.0 * uniform - 1.0) / math.sqrt(fan_in)


def _cut_normal(uniform: Tensor) -> Tensor:
    """Return normal numbers of deviation 1, cut at two deviations, by the inverse of their distribution."""
    low = torch.special.ndtr(torch.tensor(-2.0, dtype=uniform.dtype))
    return torch.special.ndtri(low + uniform * (1.0 - 2.0 * low))


def _orthogonal(normal: Tensor) -> Tensor:
    """Return matrices with orthonormal rows or columns, whichever are fewer, (model, outputs x inputs).

    As `torch.nn.init.orthogonal_`: the Q of a normal matrix, its columns' signs those of R's diagonal.
    """
    tall = normal.shape[1] >= normal.shape[2]
    q, r = torch.linalg.qr(normal if tall else normal.transpose(1, 2))
    q = q * r.diagonal(dim1=1, dim2=2).sign().unsqueeze(1)
    return (q if tall else q.transpose(1, 2)).reshape(len(normal), -1)
