"""How fast and in how much memory a Small CNN Zoo of the published size becomes a zoo of ours.

`python -m tests.benchmarks.convert` simulates the full row count, 270,000 x 4,970 float32 (5.4 GB; it needs 12 GB of
disk, which it frees again); `--rows 27000` is a tenth. Beside it (`--naive`) stands what a reader of the published
files does today: load all of weights.npy, permute its columns, and save it. `--networks 5000` converts that many
implicit representations instead, a .pth each in one zip, as DWSNets publish them.
"""

import argparse
import io
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np

from tests.zoo_gen.published import small_cnn

# The kernel's own count: a process that was forked starts with its parent's as the one of getrusage.
USED = """
def used():
    import re, resource
    found = resource.getrusage(resource.RUSAGE_SELF)
    peak = re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())
    return found.ru_utime + found.ru_stime, int(peak[1])
"""
CONVERT = """
import sys, time
from pathlib import Path
from zoo_gen.published import convert
began = time.perf_counter()
convert(Path(sys.argv[1]), Path(sys.argv[2]), format=sys.argv[3])
seconds = time.perf_counter() - began
computing, peak = used()
print(computing, seconds, peak)
"""
NAIVE = """
import sys, time
import numpy as np
index = np.fromfile(sys.argv[3], dtype=np.int64)
began = time.perf_counter()
weights = np.load(sys.argv[1] + "/weights.npy")
np.save(sys.argv[2], weights[:, index])
seconds = time.perf_counter() - began
computing, peak = used()
print(computing, seconds, peak)
"""


def timed(name: str, size: int, code: str, *arguments: str) -> str:
    """Return a line on a process of its own: seconds, MB/s, peak memory, and the seconds of computing it took."""
    run = subprocess.run([sys.executable, "-c", USED + code, *arguments], check=True, capture_output=True, text=True)
    computing, seconds, kilobytes = map(float, run.stdout.split()[-3:])
    rate = size / 1e6 / seconds
    return f"{name:24}{seconds:>10.1f}{rate:>10.0f}{kilobytes / 1e6:>10.2f}{computing:>18.1f}"


def simulate_networks(path: Path, count: int) -> int:
    """Write implicit representations of 1,185 random parameters into a zip; return their bytes."""
    import torch

    shapes = {"seq.0": (32, 2), "seq.1": (32, 32), "seq.2": (1, 32)}
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(count):
            state = {}
            for layer, shape in shapes.items():
                state |= {f"{layer}.weight": torch.randn(shape), f"{layer}.bias": torch.randn(shape[0])}
            content = io.BytesIO()
            torch.save(state, content)
            archive.writestr(
                f"mnist_png_training_{number % 10}_{number}/checkpoints/model_final.pth", content.getvalue()
            )
    return count * 1185 * 4


def measure_networks(root: Path, count: int) -> None:
    """Measure and print the conversion of implicit representations."""
    size = simulate_networks(root / "mnist-inrs.zip", count)
    line = timed("convert", size, CONVERT, str(root / "mnist-inrs.zip"), str(root / "zoo"), "dwsnets")
    print(f"{count:,} networks x 1,185 float32, a file each")
    print(f"{'':24}{'seconds':>10}{'MB/s':>10}{'peak GB':>10}{'core seconds':>18}")
    print(line)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=270_000)
    parser.add_argument("--folder", type=Path, help="Where the files go for the time of the measurement.")
    parser.add_argument("--naive", action="store_true", help="Also measure numpy alone, which holds all twice.")
    parser.add_argument("--networks", type=int, help="Convert so many implicit representations instead.")
    options = parser.parse_args()
    size = options.rows * 4970 * 4
    root = Path(tempfile.mkdtemp(prefix="convert-", dir=options.folder))
    try:
        if options.networks:
            measure_networks(root, options.networks)
            return
        if shutil.disk_usage(root).free < 2.5 * size:
            sys.exit(f"{root}: {2.5 * size / 1e9:.0f} GB of disk are needed; expected --folder or fewer --rows")
        archive = root / "cifar10"
        archive.mkdir()
        small_cnn.simulate(archive, options.rows)
        os.sync()
        line = timed("convert", size, CONVERT, str(archive), str(root / "zoo"), "small_cnn_zoo")
        stored = sum(path.stat().st_size for path in (root / "zoo").rglob("*") if path.is_file())
        files = sum(path.is_file() for path in (root / "zoo").rglob("*"))
        print(f"{options.rows:,} rows x 4,970 float32, {size / 1e9:.2f} GB, {len(os.sched_getaffinity(0))} cores")
        print(f"{'':24}{'seconds':>10}{'MB/s':>10}{'peak GB':>10}{'core seconds':>18}")
        print(line)
        if options.naive:
            import zarr

            index = np.asarray(zarr.open_array(root / "zoo" / "weights.zarr" / "permutation", mode="r")[:])
            index.astype(np.int64).tofile(root / "index")
            shutil.rmtree(root / "zoo")
            arguments = (str(archive), str(root / "naive.npy"), str(root / "index"))
            print(timed("numpy, all in memory", size, NAIVE, *arguments))
        print(f"stored: {stored / 1e9:.2f} GB in {files} files")
    finally:
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
