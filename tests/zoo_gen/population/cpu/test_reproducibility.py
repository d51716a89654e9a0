"""One small zoo, made here and by processes whose kernels have other vector registers and instructions."""

import platform
import subprocess
import sys

import pytest

from tests.conftest import files_of
from zoo_gen import engine

ARCHITECTURES = {
    "cnn": 'name = "cnn_small"',
    "transformer": 'name = "vit"\npatch = 7\nwidth = 8\nblocks = 1\naffine = true\npooling = "class_token"',
}
ZOO = """
name = "{name}"
[data]
source = "synthetic"
train_size = 30
test_size = 20
[architecture]
{architecture}
[training]
epochs = 2
batch_size = 10
optimizer = "adam"
learning_rate = 1e-2
initialization = "glorot_normal"
[axes.product]
activation = ["relu", "tanh"]
dropout = [0.0, 0.5]
seed = [1, 2, 3]
[storage]
models_per_shard = 12
"""
RUN = """
import sys
from pathlib import Path
from zoo_gen import engine
from zoo_gen.machine import vector_code
manifest, out, bits, count, cpu = sys.argv[1:]
other = vector_code.Machine(int(bits), int(count), cpu)
vector_code.machine = lambda: other
engine.run(Path(manifest), Path(out), workers=1)
"""


# Register bits, registers, LLVM's name of a processor. That of 2003 differs most from any here: the narrowest
# registers, and no fused multiply-add. AVX2, which has both halfway, is the long form; kernels of transformers meet
# other registers in test_lanes_sequences.py too.
@pytest.mark.parametrize(
    ("bits", "count", "cpu"), [(128, 16, "x86-64"), pytest.param(256, 16, "haswell", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("name", ["cnn", "transformer"])
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the other processors are of this kind")
def test_a_zoo_has_the_same_bytes_whatever_the_vector_registers_of_our_kernels(tmp_path, name, bits, count, cpu):
    """What torch itself computes is the same here; docs/cpu.md says on what its last bits depend."""
    llvm = pytest.importorskip("llvmlite.binding")
    if cpu == "haswell" and not llvm.get_host_cpu_features().get("avx2"):
        pytest.skip("needs AVX2")
    manifest = tmp_path / "zoo.toml"
    manifest.write_text(ZOO.format(name=name, architecture=ARCHITECTURES[name]))
    arguments = [str(part) for part in (manifest, tmp_path / "other", bits, count, cpu)]
    subprocess.run([sys.executable, "-c", RUN, *arguments], check=True)
    engine.run(manifest, tmp_path / "own", workers=1)
    assert files_of(tmp_path / "other") == files_of(tmp_path / "own")
