"""ModelZoos as Ray Tune leaves them, built without any of our code: a folder a run, a torch file a checkpoint.

`convert` gives a folder, where `zoo_gen.convert` opens the zoo.
"""

import io
import json
import zipfile
from dataclasses import dataclass, field

import torch
from torch import nn

import zoo_gen


def convert(*archive_and_out, **options):
    """Convert an archive, and return the folder of the zoo."""
    return zoo_gen.convert(*archive_and_out, **options).path


class Network(nn.Module):
    """The small CNN of the publication: a module list whose numbers move when dropout is put into it."""

    def __init__(self, channels, nonlinearity, dropout):
        super().__init__()
        activation = {"tanh": nn.Tanh, "relu": nn.ReLU, "gelu": nn.GELU, "leakyrelu": nn.LeakyReLU}[nonlinearity]
        drop = [nn.Dropout(dropout)] if dropout > 0 else []
        modules = [nn.Conv2d(channels, 8, 5), nn.MaxPool2d(2, 2), activation(), *drop]
        modules += [nn.Conv2d(8, 6, 5), nn.MaxPool2d(2, 2), activation(), *drop]
        modules += [nn.Conv2d(6, 4, 2), activation(), nn.Flatten()]
        modules += [nn.Linear(36, 20), activation(), *drop, nn.Linear(20, 10)]
        self.module_list = nn.ModuleList(modules)

    def forward(self, images):
        for module in self.module_list:
            images = module(images)
        return images


@dataclass
class Published:
    """What a test knows of the archive that it built."""

    files: dict = field(default_factory=dict)  # name -> bytes
    networks: dict = field(default_factory=dict)  # (run, epoch) -> a network in evaluation mode
    results: dict = field(default_factory=dict)  # (run, epoch) -> the result line


def saved(value, **options):
    content = io.BytesIO()
    torch.save(value, content, **options)
    return content.getvalue()


def copied(network, channels, nonlinearity, dropout):
    other = Network(channels, nonlinearity, dropout)
    other.load_state_dict(network.state_dict())
    return other.eval()


def zoo(
    images,
    n_runs=4,
    epochs=3,
    channels=1,
    spelling="checkpoint_{:06d}",
    first_line=0,
    legacy=False,
    top="tune_zoo_fmnist_hyp",
    extra=(),
):
    """Train runs; `first_line` is the iteration of the first result line, 1 if the initial state was not reported."""
    torch.manual_seed(7)
    published = Published()
    add = published.files.__setitem__
    add(f"{top}/config.json", b"{}")
    add(f"{top}/readme.md", b"")
    add(f"{top}/dataset.pt", b"a pickle that nobody should read")
    for run_number in range(n_runs):
        nonlinearity = ("tanh", "relu", "gelu", "leakyrelu")[run_number % 4]
        dropout = (0.0, 0.1)[run_number % 2]
        run = f"{top}/{run_number:02d}_NN_tune_trainable_abc{run_number}_seed={run_number}_2021-10-01_{run_number}"
        network = Network(channels, nonlinearity, dropout)
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
        config = {
            "model::type": "CNN",
            "model::channels_in": channels,
            "model::o_dim": 4,  # wrong, as in the publication
            "model::nlin": nonlinearity,
            "model::dropout": dropout,
            "model::init_type": "kaiming_uniform",
            "optim::optimizer": "adam",
            "optim::lr": 0.01,
            "optim::wd": 0.0,
            "seed": run_number + 1,
            "training::batchsize": 50,
            "training::epochs_train": epochs,
            "training::checkpoint_dir": None,
            "dataset::dump": f"/netscratch2/somebody/zoos/FashionMNIST/{top}/dataset.pt",
        }
        add(f"{run}/params.json", json.dumps(config).encode())
        add(f"{run}/params.pkl", b"a pickle that nobody should read")
        add(f"{run}/progress.csv", b"not,needed\n")
        lines = []
        for epoch in range(epochs + 1):
            loss = accuracy = -999
            if epoch:
                network.train()
                right = total = 0
                inputs, labels = images["train"]
                for batch in torch.randperm(len(labels)).split(100):
                    optimizer.zero_grad()
                    logits = network(inputs[batch])
                    value = nn.functional.cross_entropy(logits, labels[batch])
                    value.backward()
                    optimizer.step()
                    right, total, loss = (
                        right + (logits.argmax(1) == labels[batch]).sum().item(),
                        total + len(batch),
                        0.5,
                    )
                accuracy = right / total
            network.eval()
            with torch.no_grad():
                logits = network(images["test"][0])
            line = {
                "train_loss": loss,
                "train_acc": accuracy,
                "test_loss": nn.functional.cross_entropy(logits, images["test"][1]).item(),
                "test_acc": (logits.argmax(1) == images["test"][1]).float().mean().item(),
                "training_iteration": epoch,
                "timestamp": 1633000000 + epoch,
                "hostname": "somewhere",
                "done": False,
                "config": config,
            }
            if epoch >= first_line:
                lines.append(line)
                published.results[run, epoch] = line
            folder = f"{run}/{spelling.format(epoch)}"
            state = network.state_dict()
            options = {"_use_new_zipfile_serialization": False} if legacy else {}
            add(f"{folder}/checkpoints", saved(state, **options))
            add(f"{folder}/optimizer", b"half of the terabytes, and not to be opened")
            add(f"{folder}/.tune_metadata", b"a pickle that nobody should read")
            add(f"{folder}/.is_checkpoint", b"")
            published.networks[run, epoch] = copied(network, channels, nonlinearity, dropout)
        add(f"{run}/result.json", "".join(json.dumps(line) + "\n" for line in lines).encode())
    for name, content in extra:
        add(f"{top}/{name}", content)
    return published


def zipped(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def folder(path, files):
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path
