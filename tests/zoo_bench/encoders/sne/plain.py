"""SNE as printed: a loop over networks, layers, tensors and chunks, with plain attention, from the same parameters.

It shares no code with the package but the modules' parameters: sets are cut with slices and never padded, attention is
written out head by head, and the maps that the package multiplies out are applied one after another.
"""

import math

import torch
from torch.nn import functional


def attend(query, key, value, heads):
    """Multi-head attention of vectors (query, width) to (element, width), head by head."""
    size = query.shape[1] // heads
    actual = []
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        scores = query[:, part] @ key[:, part].T / math.sqrt(size)
        actual.append(torch.softmax(scores, dim=1) @ value[:, part])
    return torch.cat(actual, dim=1)


def rest(module, x):
    hidden = module.attention_norm(x)
    return module.norm(hidden + functional.relu(module.linear(hidden)))


def first_sab(module, x):
    query, key, value = module.query(x), module.key(x), module.value(x)
    return rest(module.block, query + module.output(attend(query, key, value, module.heads)))


def sab(module, x):
    query, key, value = (x @ weight.T for weight in module.projection.weight.chunk(3))
    return rest(module.block, x + module.output(attend(query, key, value, module.heads)))


def pma(module, x):
    members = functional.relu(module.elements(x))
    query, key, value = module.query(module.seed), module.key(members), module.value(members)
    return rest(module.block, module.seed + module.output(attend(query, key, value, module.heads)))[0]


def code(position, width):
    """Sine and cosine code of a number, (width,)."""
    half = (width + 1) // 2
    angles = [position / 10000 ** (i / half) for i in range(half)]
    return torch.tensor([math.sin(a) for a in angles] + [math.cos(a) for a in angles])[:width]


def encode(network, layout, weights, *, chunk):
    """Encode one network, weights (number,), with default settings; return its embedding and logit."""
    width = network.settings.width
    layers = []
    for level, name in enumerate(layout.layers):
        tensors = []
        for parameter in layout.parameters:
            if parameter.layer != name:
                continue
            entries = weights[parameter.start : parameter.stop].reshape(parameter.shape)
            is_convolution = len(layout_weight(layout, name).shape) == 4
            entries = entries.flatten(0, 1).flatten(1) if entries.dim() == 4 else entries.reshape(-1, 1)
            chunks = []
            for part in entries.split(chunk):
                numbers = part.reshape(-1, 1)
                x = sab(network.chunk_first, first_sab(network.numbers, numbers))
                x = x + code(0 if is_convolution else 1, width) + code(level, width)
                if network.numbers_path is not None:
                    x = x + network.numbers_path(numbers)
                for layer in network.chunk_second.layers:
                    x = sab(layer, x)
                chunks.append(pma(network.chunk_pooling, x))
            x = torch.stack(chunks)
            for layer in network.layer_sets.layers:
                x = sab(layer, x)
            tensors.append(pma(network.layer_pooling, x + code(level, width)))
        x = torch.stack(tensors)
        for layer in network.separated_sets.layers:
            x = sab(layer, x)
        layers.append(pma(network.separated_pooling, x))
    x = torch.stack(layers) + torch.stack([code(level, width) for level in range(len(layers))])
    for layer in network.network_sets.layers:
        x = sab(layer, x)
    embedding = pma(network.network_pooling, x)
    return embedding, network.head(embedding[None])[0, 0]


def layout_weight(layout, name):
    return next(parameter for parameter in layout.parameters if parameter.name == f"{name}.weight")
