"""A Small CNN Zoo as its authors publish it, built without any of our code: Keras' orders, a CSV and a layout.

The networks are trained by plain torch on the images given; their weights are then laid out as TensorFlow would. For
measurements `simulate` writes one of any size, whose weights are noise.
"""

import csv
import gzip
import io
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

STEPS = (0, 1, 2, 3, 20, 40, 60, 80, 86)
COLUMNS = (
    "config.activation",
    "config.b_init",
    "config.dataset",
    "config.dnn_architecture",
    "config.dropout",
    "config.epochs",
    "config.epochs_between_checkpoints",
    "config.init_std",
    "config.l2reg",
    "config.learning_rate",
    "config.num_layers",
    "config.num_units",
    "config.optimizer",
    "config.random_seed",
    "config.train_fraction",
    "config.w_init",
    "modeldir",
    "step",
    "test_accuracy",
    "test_loss",
    "train_accuracy",
    "train_loss",
)
LAYOUT = """varname,start_idx,end_idx,shape
sequential/conv2d/bias:0,0,16,"(16,)"
sequential/conv2d/kernel:0,16,160,"(3, 3, 1, 16)"
sequential/conv2d_1/bias:0,160,176,"(16,)"
sequential/conv2d_1/kernel:0,176,2480,"(3, 3, 16, 16)"
sequential/conv2d_2/bias:0,2480,2496,"(16,)"
sequential/conv2d_2/kernel:0,2496,4800,"(3, 3, 16, 16)"
sequential/dense/bias:0,4800,4810,"(10,)"
sequential/dense/kernel:0,4810,4970,"(16, 10)"
"""


class Network(nn.Module):
    """Three strided convolutions, the mean over positions, one linear layer."""

    def __init__(self, activation):
        super().__init__()
        self.convolutions = nn.ModuleList([nn.Conv2d(c, 16, 3, stride=2) for c in (1, 16, 16)])
        self.dense = nn.Linear(16, 10)
        self.activation = {"relu": torch.relu, "tanh": torch.tanh}[activation]

    def forward(self, images):
        for convolution in self.convolutions:
            images = self.activation(convolution(images))
        return self.dense(images.mean(dim=(2, 3)))

    def vector(self):
        """The weights as the publication flattens them: bias first, kernels (height, width, in, out)."""
        parts = []
        for convolution in self.convolutions:
            parts += [convolution.bias, convolution.weight.permute(2, 3, 1, 0)]
        parts += [self.dense.bias, self.dense.weight.t()]
        return torch.cat([part.reshape(-1) for part in parts]).detach().numpy().copy()


@dataclass
class Published:
    """What a test knows of the archive that it built."""

    weights: np.ndarray  # float32 (row, 4970) in the order of the rows
    rows: list  # dictionaries of text, as in the CSV
    states: dict  # (modeldir, step) -> state_dict of our torch network
    activations: dict  # modeldir -> activation


def noise(n_train=64, n_test=50):
    """Images and labels without meaning."""
    generator = torch.Generator().manual_seed(0)

    def part(n):
        return torch.randn(n, 1, 28, 28, generator=generator), torch.randint(0, 10, (n,), generator=generator)

    return {"train": part(n_train), "test": part(n_test)}


def train(n_runs=6, steps=STEPS, images=None, seed=0):
    """Train networks and return what the archive will hold, rows in the published order of sorted paths."""
    torch.manual_seed(seed)
    images = images or noise()
    published = Published(np.zeros((0, 4970), np.float32), [], {}, {})
    gathered = {}
    for run in range(n_runs):
        activation, rate = ("relu", "tanh")[run % 2], (3e-3, 1e-2, 3e-2)[run % 3]
        network = Network(activation)
        optimizer = torch.optim.Adam(network.parameters(), lr=rate)
        modeldir = f"/cns/zoo/{run:04d}-{run * 7919 % 1000}"
        published.activations[modeldir] = activation
        for step in steps:
            row = row_of(
                modeldir,
                step,
                activation=activation,
                dataset="fashion_mnist",
                learning_rate=rate,
                train_fraction=(0.1, 1.0)[run % 2],
                w_init=("he_normal", "orthogonal")[run % 2],
            )
            for part, (inputs, labels) in images.items():
                with torch.no_grad():
                    logits = network(inputs)
                    # Keras reports float32 numbers, printed with all the digits of a float64
                    accuracy = (logits.argmax(1) == labels).float().mean().item()
                    row[f"{part}_accuracy"] = repr(accuracy)
                    row[f"{part}_loss"] = repr(nn.functional.cross_entropy(logits, labels).item())
            gathered[f"{modeldir}/permanent_ckpt-{step}"] = row, network.vector()
            published.states[modeldir, step] = {k: v.detach().clone() for k, v in network.state_dict().items()}
            if step == steps[-1]:
                break
            inputs, labels = images["train"]
            for batch in torch.randperm(len(labels)).split(max(16, len(labels) // 20)):
                optimizer.zero_grad()
                nn.functional.cross_entropy(network(inputs[batch]), labels[batch]).backward()
                optimizer.step()
    published.rows = [gathered[path][0] for path in sorted(gathered)]
    published.weights = np.stack([gathered[path][1] for path in sorted(gathered)])
    return published


def row_of(modeldir, step, **config):
    """A row of the CSV, as text by column; 0.0 where nothing is said."""
    always = {"b_init": "zeros", "dnn_architecture": "cnn", "epochs": 86, "epochs_between_checkpoints": 20}
    always |= {"num_layers": 3, "num_units": 16, "optimizer": "adam", "random_seed": 42}
    settings = {f"config.{name}": str(value) for name, value in (always | config).items()}
    return dict.fromkeys(COLUMNS, "0.0") | settings | {"modeldir": modeldir, "step": str(step)}


def write_metrics(file, rows, *, columns=COLUMNS, index=False):
    """Write the CSV as pandas does, with or without its index."""
    writer = csv.writer(file)
    writer.writerow([""] * index + list(columns))
    for number, row in enumerate(rows):
        writer.writerow([number] * index + [row.get(name, "extra") for name in columns])


def files(published, *, columns=COLUMNS, index=False, packed=True, weights=None, layout=LAYOUT):
    """The three files of the archive, name -> bytes."""
    text = io.StringIO()
    write_metrics(text, published.rows, columns=columns, index=index)
    metrics = text.getvalue().encode()
    array = io.BytesIO()
    np.save(array, published.weights if weights is None else weights)
    name = "metrics.csv.gz" if packed else "metrics.csv"
    return {
        "weights.npy": array.getvalue(),
        name: gzip.compress(metrics) if packed else metrics,
        "layout.csv": layout.encode(),
    }


def simulate(path, n_rows):
    """Write the three files at any size, block by block; noise compresses less than the weights of trained networks."""
    random = np.random.default_rng(0)
    with (path / "weights.npy").open("wb") as out:
        header = {"descr": "<f4", "fortran_order": False, "shape": (n_rows, 4970)}
        np.lib.format.write_array_header_1_0(out, header)
        for start in range(0, n_rows, 4096):
            shape = (min(4096, n_rows - start), 4970)
            out.write((random.standard_normal(shape, dtype=np.float32) * 0.1).tobytes())
    (path / "layout.csv").write_text(LAYOUT)
    with gzip.open(path / "metrics.csv.gz", "wt", compresslevel=1) as file:
        write_metrics(file, map(_simulated_row, range(n_rows)))


def _simulated_row(number):
    run, position = divmod(number, len(STEPS))
    rate = 10 ** -(1 + run % 997 / 300)
    row = row_of(
        f"/cns/zoo/{run:06d}",
        sorted(STEPS, key=str)[position],
        activation=("relu", "tanh")[run % 2],
        dataset="cifar10",
        dropout=run % 7 / 10,
        init_std=rate,
        l2reg=rate / 10,
        learning_rate=rate,
        train_fraction=0.5,
        w_init="he_normal",
    )
    accuracy = str(number % 1000 / 1000)
    return row | {"test_accuracy": accuracy, "test_loss": "2.3", "train_accuracy": "0.5", "train_loss": "2.2"}


def folder(path, content, *, top="fashion_mnist"):
    (path / top).mkdir(parents=True)
    for name, data in content.items():
        (path / top / name).write_bytes(data)
    return path / top


def tar(path, content, *, mode="w:xz", top="fashion_mnist/"):
    with tarfile.open(path, mode) as archive:
        for name, data in content.items():
            entry = tarfile.TarInfo(top + name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return path


def zipped(path, content, *, compression=zipfile.ZIP_DEFLATED, top="fashion_mnist/"):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in content.items():
            archive.writestr(top + name, data)
    return path


def permutation_file(path: Path, n_rows, seed=0):
    """A split file as NFN's: the header that pandas gives an unnamed column, then a permutation of all rows."""
    order = np.random.RandomState(seed).permutation(n_rows)
    path.write_text("0\n" + "".join(f"{row}\n" for row in order))
    return path
