"""Samples a second for a training loop: `Zoo.torch_dataset` against a folder of .pt files, in shuffled batches.

Run: python -m tests.benchmarks.dataset [--models 2000]
"""

import argparse
import tempfile
import time
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset

from zoo_gen import ZooManifest, export, run


class Folder(Dataset):
    """The straightforward way: a file a checkpoint, flattened as it is read."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, position: int) -> torch.Tensor:
        return torch.cat([tensor.flatten() for tensor in torch.load(self.paths[position]).values()])


def samples_a_second(dataset: Dataset) -> float:
    began = time.perf_counter()
    count = sum(len(batch) for batch in DataLoader(dataset, batch_size=64, shuffle=True))
    return count / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=2000)
    n_models = parser.parse_args().models
    manifest = ZooManifest.model_validate(
        {
            "name": "dataset_benchmark",
            "data": {
                "source": "synthetic",
                "image_shape": [1, 28, 28],
                "n_classes": 10,
                "train_size": 256,
                "test_size": 64,
            },
            "architecture": {"name": "cnn_small"},
            "training": {
                "epochs": 1,
                "batch_size": 64,
                "optimizer": "sgd",
                "learning_rate": 0.01,
                "activation": "relu",
                "initialization": "kaiming_uniform",
            },
            "checkpoints": {"epochs": [1]},
            "axes": {"product": {"seed": {"range": [1, n_models]}}},
            "split": {"train": 0.98, "validation": 0.01, "test": 0.01},
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        zoo = run(manifest, out=Path(folder) / "zoo", progress=False)
        paths = export(zoo, Path(folder) / "files", format="pt", models=zoo.split("train").tolist())
        files = samples_a_second(Folder(paths))
        print(f"a folder of .pt files: {files:12,.0f} samples/s")
        for label, memory in (("in memory", 2**31), ("read a batch at a time", 0)):
            rate = samples_a_second(zoo.torch_dataset("train", memory=memory))
            print(f"{'torch_dataset, ' + label:40}: {rate:12,.0f} samples/s, {rate / files:.1f} x")


if __name__ == "__main__":
    main()
