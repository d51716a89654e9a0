"""How many bytes travel when one model of a zoo on the Hub is opened and read, counted by a server on loopback.

`python -m tests.benchmarks.hub` takes shipped manifests at their full number of files, with one shard of random
weights, which compress worse than trained ones. Beside it stands what a download of that model's shard takes.
"""

import os
import tempfile
from pathlib import Path

import numpy as np

from tests import hub_server
from tests.conftest import files_of
from zoo_gen import find_manifest, open_zoo, read_manifest
from zoo_gen.store import Store, untrained

ZOOS = ("modelzoos_mnist_seed", "modelzoos_cifar10_large_seed", "small_cnn_zoo_mnist")


def files(name: str, folder: Path) -> dict[str, bytes]:
    """Return the files of a zoo whose first shard is real and whose others only have their names."""
    store = Store.create(folder, untrained(read_manifest(find_manifest(name)), data_sha256="0" * 64, device="cpu"))
    extent = store.extent
    random, models = np.random.RandomState(0), extent.models(0).stop
    arrays = {
        name: (random.standard_normal((models, *shape[1:])) * 0.1).astype(np.float32)
        for name, shape in extent.arrays().items()
    }
    store.write_shard(0, arrays, device="cpu")
    sizes = files_of(folder)
    for path in list(sizes):
        for shard in range(1, extent.n_shards) if "/c/0/" in path or "part-00000" in path else ():
            sizes[path.replace("/c/0/", f"/c/{shard}/").replace("part-00000", f"part-{shard:05d}")] = b"x"
    return sizes


def main() -> None:
    """Print the table."""
    hub_server.PAGE = 1000  # the Hub's own
    print(f"{'zoo':30} {'files':>6} {'open':>10} {'one model':>10} {'its shard':>12}")
    for name in ZOOS:
        with tempfile.TemporaryDirectory() as folder, hub_server.serve() as hub:
            os.environ["HF_ENDPOINT"] = hub.endpoint
            content = files(name, Path(folder) / "zoo")
            hub.add("org/zoo", content)
            zoo = open_zoo("hf://org/zoo")
            opened = hub.sent()
            zoo.module(zoo.extent.models(0).stop // 2)
            shard = sum(len(content[path]) for path in content if path.startswith("weights.zarr/weights/c/0/"))
            print(f"{name:30} {len(content):6,} {opened:10,} {hub.sent():10,} {shard:12,}")


if __name__ == "__main__":
    main()
