"""Times the training of hyper-representations against the straightforward way that published code does it.

Run it with `make benchmark`, or: python -m tests.benchmarks.encoders [--device cuda] [--sizes tetris_seed]

Both ways train the same autoencoder with the same loss on the same weights. The straightforward way draws its views
sample by sample on the host, embeds and reconstructs neuron by neuron, and compares all pairs of views by broadcasting.
Its views come as in published code (each a copy indexed by a list out of a pool of permutations) and, for a better
opponent than that, from numpy (each permutation drawn and applied layer by layer); a block is erased by a loop of
tries. Weights are random: the arithmetic does not look at them.
"""

import argparse
import copy
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.zoo_bench.layouts import CNN_SMALL, SMALL_CNN_GAP, TETRIS
from zoo_bench.encoders.hyper_representation.augment import Augmentation, Permutations
from zoo_bench.encoders.hyper_representation.configurations import PAPER, SMALL, Configuration
from zoo_bench.encoders.hyper_representation.network import Autoencoder
from zoo_bench.encoders.hyper_representation.objective import Objective
from zoo_bench.encoders.training.steps import compile_whole, graphed, make_step
from zoo_gen.architecture.layout import ParameterLayout
from zoo_gen.architecture.tokens import Tokens
from zoo_gen.machine.memory import freed_memory_kept

LAYOUTS = {layout.size: layout for layout in (TETRIS, CNN_SMALL, SMALL_CNN_GAP)}
N_SAMPLES = 2000
ROUNDS = 3
POOL = 500  # of permutations; the public code has 120 for Tetris and 25,000 for the others, as lists in memory


def per_second(act: Callable[[], object], device: torch.device, *, seconds: float) -> float:
    """Return how often a second something can be done, after warming up."""
    act()
    count = 1
    while True:  # in runs without a wait inside, because launches may run ahead of a GPU
        began = _now(device)
        for _ in range(count):
            act()
        took = _now(device) - began
        if took >= seconds / 2:
            return count / took
        count = max(2 * count, int(count * seconds / max(took, 1e-6) / 2))


def matmul_rate(device: torch.device, dtype: torch.dtype, *, seconds: float) -> float:
    """Return the rate of a large matrix product, FLOP/s."""
    size = 8192 if device.type == "cuda" else 2048
    first, second = torch.randn(2, size, size, device=device, dtype=dtype)
    return 2 * size**3 * per_second(lambda: first @ second, device, seconds=seconds)


def flops_of_a_step(configuration: Configuration, tokens: Tokens) -> float:
    """Return the floating-point operations of the matrix products of a step: two views, forward and backward.

    Counted are those that our way does: projections, feed-forward layers, attention, embeddings, bottleneck and the
    decoder's maps, and of the encoder's last block only what the compression token needs. Head, norms, losses and
    augmentation are left out, so the share of the matrix rate is understated.
    """
    width, count = configuration.width, tokens.count
    a_token = 4 * width**2 + 2 * width * configuration.feedforward
    encoder, decoder = (
        (n * a_token + 2 * n**2 * width) * blocks
        for n, blocks in ((count + 1, configuration.blocks - 1), (count, configuration.blocks))
    )
    encoder += a_token - 2 * width**2 + (count + 1) * (2 * width**2 + 2 * width)
    ends = (count + 1) * width * configuration.latent + 2 * width * len(tokens.order)
    return 2 * 3 * 2 * configuration.batch_size * (encoder + decoder + ends)


def our_step(
    configuration: Configuration, layout: ParameterLayout, device: torch.device, *, bfloat16: bool
) -> tuple[Callable, Callable]:
    """Return our training step, as `train` takes it, and its augmentation alone."""
    torch.manual_seed(0)
    module = Autoencoder(Tokens.of(layout), configuration).to(device).train()
    weights = torch.randn(N_SAMPLES, layout.size, device=device)
    permutations = Permutations(layout, device)
    objective = Objective(
        module,
        "E_cD",
        train=weights,
        validation=weights,
        configuration=configuration,
        augmentation=Augmentation(),
        permutations=permutations,
        target="augmented",
        seed=0,
    )
    on_gpu = device.type == "cuda"
    rate = torch.tensor(1e-4, device=device) if on_gpu else 1e-4
    optimizer = torch.optim.Adam(module.parameters(), lr=rate, fused=True, capturable=on_gpu)
    generator = torch.Generator(device)
    total = torch.zeros((), dtype=torch.float64, device=device)
    if on_gpu:
        compile_whole(objective.comparison)
    step = make_step(
        module, objective.loss, optimizer, generator=generator, total=total, clip=None, bfloat16=bfloat16, n_processes=1
    )
    rows = torch.arange(configuration.batch_size, device=device)

    def augment() -> None:
        Augmentation().views(weights[rows].repeat(2, 1), permutations, generator)

    if on_gpu:
        step = graphed(step, module, optimizer, generator=generator, n_samples=len(rows))
        augment = _captured(augment, generator)
    return lambda: step(rows), augment


def straightforward_step(
    configuration: Configuration, layout: ParameterLayout, device: torch.device, *, published: bool
) -> tuple[Callable, Callable]:
    """Return a training step as published code does it, and its data path alone: as published, or in numpy."""
    torch.manual_seed(0)
    random = np.random.RandomState(0)
    module = Autoencoder(Tokens.of(layout), configuration).to(device).train()
    weights = random.standard_normal((N_SAMPLES, layout.size)).astype(np.float32)
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-4)
    permuted = (_by_lists if published else _by_layers)(layout, weights, random)

    def view(sample: int) -> Tensor:
        vector = permuted(sample)
        if random.rand() < 0.5:
            for _ in range(10):
                length, start = int(len(vector) * random.uniform(0.02, 0.33)), random.randint(len(vector))
                if start + length < len(vector):
                    vector[start : start + length] = 0
                    break
        return vector

    def views() -> Tensor:
        samples = random.choice(N_SAMPLES, configuration.batch_size, replace=False)
        pairs = [(view(sample), view(sample)) for sample in samples]
        return torch.cat([torch.stack(part) for part in zip(*pairs, strict=True)]).to(device)

    def step() -> None:
        inputs = views()
        embeddings = _encode_by_neuron(module, layout, inputs)
        loss = 0.5 * functional.mse_loss(_decode_by_neuron(module, layout, embeddings), inputs)
        heads = module.head(embeddings)
        similarities = functional.cosine_similarity(heads[:, None], heads[None], dim=2) / configuration.temperature
        similarities = similarities.masked_fill(torch.eye(len(heads), dtype=torch.bool, device=device), -torch.inf)
        positive = torch.arange(len(heads), device=device).roll(len(heads) // 2)
        loss = loss + 0.5 * functional.cross_entropy(similarities, positive)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()

    return step, views


def _by_lists(layout: ParameterLayout, weights: np.ndarray, random: np.random.RandomState) -> Callable[[int], Tensor]:
    """Return what permutes a sample as published code does: a copy of it, indexed by a list out of a pool."""
    orders = [{each.layer: random.permutation(each.size) for each in layout.symmetries} for _ in range(POOL)]
    pool = [layout.permutation(order).tolist() for order in orders]
    vectors = torch.from_numpy(weights).unbind()
    return lambda sample: copy.deepcopy(vectors[sample])[pool[random.randint(POOL)]]


def _by_layers(layout: ParameterLayout, weights: np.ndarray, random: np.random.RandomState) -> Callable[[int], Tensor]:
    """Return what permutes a sample layer by layer in numpy, by orders drawn for it."""

    def permuted(sample: int) -> Tensor:
        tensors = {name: tensor.copy() for name, tensor in layout.split(weights[sample]).items()}
        for symmetry in layout.symmetries:
            order = random.permutation(symmetry.size)
            for move in symmetry.moves:
                entries = (order[:, None] * move.block + np.arange(move.block)).reshape(-1)
                tensors[move.parameter] = np.take(tensors[move.parameter], entries, axis=move.axis)
        return torch.from_numpy(layout.join(tensors))

    return permuted


def _neurons(layout: ParameterLayout) -> list[list[slice]]:
    """Return the pieces of the flat vector that each neuron is made of, a list a layer."""
    parameters = {parameter.name: parameter for parameter in layout.parameters}
    layers = []
    for layer in layout.layers:
        weight, bias = parameters[f"{layer}.weight"], parameters.get(f"{layer}.bias")
        length = weight.size // weight.shape[0]
        pieces = []
        for neuron in range(weight.shape[0]):
            start = weight.start + neuron * length
            pieces.append([slice(start, start + length)])
            if bias is not None:
                pieces[-1].append(slice(bias.start + neuron, bias.start + neuron + 1))
        layers.append(pieces)
    return layers


def _encode_by_neuron(module: Autoencoder, layout: ParameterLayout, weights: Tensor) -> Tensor:
    encoder = module.encoder
    tokens = [encoder.compression.expand(len(weights), -1)]
    for layer, embed in zip(_neurons(layout), encoder.embeddings, strict=True):
        tokens += [embed(torch.cat([weights[:, piece] for piece in pieces], dim=1)) for pieces in layer]
    mixed = torch.stack(tokens, dim=1) + encoder.positions
    for block in encoder.blocks:
        mixed = _plain_block(block, mixed)
    return encoder.bottleneck(mixed[:, 0]).tanh()


def _decode_by_neuron(module: Autoencoder, layout: ParameterLayout, embeddings: Tensor) -> Tensor:
    decoder = module.decoder
    mixed = decoder.expand(embeddings).unflatten(1, decoder.positions.shape) + decoder.positions
    for block in decoder.blocks:
        mixed = _plain_block(block, mixed)
    result, token = torch.zeros(len(embeddings), layout.size, device=embeddings.device), 0
    for layer, output in zip(_neurons(layout), decoder.outputs, strict=True):
        for pieces in layer:
            values = output(mixed[:, token])
            result[:, pieces[0]] = values[:, : values.shape[1] - len(pieces) + 1]
            if len(pieces) > 1:
                result[:, pieces[1]] = values[:, -1:]
            token += 1
    return result


def _plain_block(block: nn.Module, tokens: Tensor) -> Tensor:
    """A pre-norm block with separate projections and attention written out."""

    def norm(module: nn.Module, inputs: Tensor) -> Tensor:
        mean, deviation = inputs.mean(-1, keepdim=True), inputs.std(-1, keepdim=True)
        return module.weight * (inputs - mean) / (deviation + 1e-6) + module.bias

    rows, count, width = tokens.shape
    normed = norm(block.norm_attention, tokens)
    projected = [
        functional.linear(normed, weight, bias).view(rows, count, block.heads, -1).transpose(1, 2)
        for weight, bias in zip(
            block.queries_keys_values.weight.chunk(3), block.queries_keys_values.bias.chunk(3), strict=True
        )
    ]
    queries, keys, values = projected
    attention = (queries @ keys.transpose(2, 3) / queries.shape[3] ** 0.5).softmax(dim=3)
    mixed = (functional.dropout(attention, 0.1) @ values).transpose(1, 2).reshape(rows, count, width)
    tokens = tokens + functional.dropout(block.attended(mixed), block.dropout)
    inner = functional.dropout(block.widen(norm(block.norm_feedforward, tokens)).relu(), block.dropout)
    return tokens + functional.dropout(block.narrow(inner), block.dropout)


def _captured(act: Callable[[], None], generator: torch.Generator) -> Callable[[], None]:
    """Return something on a GPU as one launch, as it is inside our step."""
    act()
    graph = torch.cuda.CUDAGraph()
    graph.register_generator_state(generator)
    with torch.cuda.graph(graph):
        act()
    return graph.replay


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def compare(name: str, device: torch.device, *, batch: int | None, seconds: float, rate: float, bfloat16: bool) -> None:
    """Print one configuration: ours, the straightforward way, their ratio and ours against the matrix product."""
    configuration = SMALL if name == "small" else PAPER[name]
    configuration = replace(configuration, batch_size=batch or configuration.batch_size)
    layout = LAYOUTS[configuration.parameters or 100]
    flops = flops_of_a_step(configuration, Tokens.of(layout))
    ours, augment = our_step(configuration, layout, device, bfloat16=bfloat16)
    opponents = {
        way: straightforward_step(configuration, layout, device, published=way == "as published")
        for way in ("as published", "from numpy")
    }
    rates: dict[str, list[float]] = {}
    # In turns, of which the best counts: whatever else runs on a machine slows down what is measured just then.
    for _ in range(ROUNDS):
        with freed_memory_kept():  # as `train` does
            rates.setdefault("step", []).append(per_second(ours, device, seconds=seconds / ROUNDS))
        for way, (theirs, _) in opponents.items():
            rates.setdefault(way, []).append(per_second(theirs, device, seconds=seconds / ROUNDS))
    step, view = max(rates["step"]), per_second(augment, device, seconds=seconds)
    samples = configuration.batch_size
    print(
        f"{name:12} batch {samples:4}  ours {samples * step:10,.0f} samples/s ({1e3 / step:8.2f} ms a step, "
        f"augmentation {100 * step / view:4.1f} %), {100 * flops * step / rate:3.0f} % of the matrix product"
    )
    for way, (_, data) in opponents.items():
        their_step, their_view = max(rates[way]), per_second(data, device, seconds=seconds)
        print(
            f"{name:12} straightforward, views {way:12} {samples * their_step:8,.0f} samples/s "
            f"({1e3 / their_step:9.1f} ms, views {1e3 / their_view / samples / 2:.3f} ms each)"
            f"  x {step / their_step:6.1f}",
            flush=True,
        )


def encoded(name: str, device: torch.device, *, seconds: float) -> None:
    """Print how many models a second are embedded."""
    configuration = SMALL if name == "small" else PAPER[name]
    layout = LAYOUTS[configuration.parameters or 100]
    encoder = Autoencoder(Tokens.of(layout), configuration).to(device).eval().encoder
    rows = torch.randn(4096 if device.type == "cuda" else 512, layout.size, device=device)
    with torch.no_grad():
        rate = per_second(lambda: encoder(rows), device, seconds=seconds)
    print(f"{name:12} embeds {rate * len(rows):12,.0f} models a second (float32)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--sizes", default="small,tetris_seed,mnist_seed")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement, at least")
    parser.add_argument("--batch", type=int, help="instead of the configuration's own (500; small: 250)")
    parser.add_argument("--cpu-bfloat16", action="store_true", help="train ours in bfloat16 on a CPU, as on a GPU")
    options = parser.parse_args()
    device = torch.device(options.device)
    bfloat16 = device.type == "cuda" or options.cpu_bfloat16
    dtype = torch.bfloat16 if bfloat16 else torch.float32
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    rate = matmul_rate(device, dtype, seconds=options.seconds)
    print(f"torch {torch.__version__}, {where}; hyper-representation E_cD")
    print(f"ours in {str(dtype)[6:]}, whose matrix product reaches {rate / 1e12:.3g} TFLOP/s\n")
    for name in options.sizes.split(","):
        compare(name, device, batch=options.batch, seconds=options.seconds, rate=rate, bfloat16=bfloat16)
    for name in options.sizes.split(","):
        encoded(name, device, seconds=options.seconds)


if __name__ == "__main__":
    main()
