"""Small files in the formats in which data sets are published, written from the formats' descriptions alone."""

import bz2
import gzip
import hashlib
import pickle
import struct
from pathlib import Path

import numpy as np
import scipy.io


def pixels(*shape: int, seed: int = 0) -> np.ndarray:
    """Return random bytes."""
    return np.random.RandomState(seed).randint(0, 256, size=shape, dtype=np.uint8)


def labels(count: int, n_classes: int = 10, *, first: int = 0) -> np.ndarray:
    """Return labels in which every class occurs."""
    return (np.arange(count) * 7 % n_classes + first).astype(np.uint8)


def idx(array: np.ndarray) -> bytes:
    """Return an array of bytes in the IDX format."""
    return struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write(path: Path, content: bytes) -> None:
    """Write a file, and its folders; gzipped if its name says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def write_idx(
    folder: Path, *, sizes: tuple[int, int] = (30, 20), gz: str = "", first: int = 0, prefix: str = ""
) -> None:
    """Write the four files of MNIST: 28 x 28 pixels, ten classes."""
    for part, size in zip(("train", "test" if prefix else "t10k"), sizes, strict=True):
        write(folder / f"{prefix}{part}-images-idx3-ubyte{gz}", idx(pixels(size, 28, 28, seed=size)))
        write(folder / f"{prefix}{part}-labels-idx1-ubyte{gz}", idx(labels(size, first=first)))


def write_usps(root: Path) -> None:
    """Write LIBSVM's text: labels from 1 on, `number:value` with values from -1 to 1."""
    for name, size in (("usps.bz2", 12), ("usps.t.bz2", 11)):
        values = pixels(size, 256, seed=size) / 127.5 - 1
        lines = [
            " ".join([str(label + 1), *(f"{number + 1}:{value:.6f}" for number, value in enumerate(row))])
            for label, row in zip(labels(size), values, strict=True)
        ]
        write(root / name, bz2.compress(("\n".join(lines) + "\n").encode()))


def write_svhn(root: Path) -> dict[str, str]:
    """Write MATLAB files of (height, width, channel, image), where 10 stands for the digit 0; return their MD5."""
    root.mkdir(parents=True, exist_ok=True)
    for part, size in (("train", 12), ("test", 11)):
        kinds = labels(size).astype(int)
        content = {"X": pixels(32, 32, 3, size, seed=size), "y": np.where(kinds == 0, 10, kinds)[:, None]}
        scipy.io.savemat(root / f"{part}_32x32.mat", content, do_compression=True)
    return md5s(root)


def write_cifar10(folder: Path) -> dict[str, str]:
    """Write the pickles of CIFAR-10: rows of 3,072 bytes, all red ones first; return their MD5."""
    for number, name in enumerate([*(f"data_batch_{batch}" for batch in range(1, 6)), "test_batch"]):
        batch = {"data": pixels(10, 3072, seed=number), "labels": labels(10).tolist()}
        write(folder / name, pickle.dumps(batch, protocol=2))
    write(folder / "batches.meta", pickle.dumps({"label_names": list("abcdefghij")}, protocol=2))
    return md5s(folder)


def write_cifar100(folder: Path) -> dict[str, str]:
    """Write the pickles of CIFAR-100, with fine labels; return their MD5."""
    for name, size in (("train", 110), ("test", 100)):
        batch = {"data": pixels(size, 3072, seed=size), "fine_labels": labels(size, 100).tolist()}
        write(folder / name, pickle.dumps(batch, protocol=2))
    write(folder / "meta", pickle.dumps({"fine_label_names": [str(kind) for kind in range(100)]}, protocol=2))
    return md5s(folder)


def write_stl10(folder: Path) -> dict[str, str]:
    """Write the raw bytes of STL-10: (image, channel, column, row), labels from 1 on; return their MD5."""
    for part, size in (("train", 12), ("test", 11), ("unlabeled", 1)):
        write(folder / f"{part}_X.bin", pixels(size, 3, 96, 96, seed=size).tobytes())
        if part != "unlabeled":
            write(folder / f"{part}_y.bin", labels(size, first=1).tobytes())
    return md5s(folder)


def md5s(folder: Path) -> dict[str, str]:
    """Return name -> MD5 (hex) of the files of a folder."""
    return {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in folder.iterdir() if path.is_file()}
