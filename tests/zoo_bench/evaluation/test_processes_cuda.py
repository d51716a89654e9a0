"""Encoders on a GPU: CUDA starts in the process that fits, and in no other."""

import pytest
import torch

from zoo_bench.encoders.training.runtime import Runtime
from zoo_bench.evaluation import run as engine
from zoo_bench.protocol.manifest import BenchmarkManifest

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def test_each_fit_has_the_gpu_and_this_process_does_not(tmp_path, tiny_zoo):
    manifest = BenchmarkManifest(name="its", protocol="standard", zoos=("tiny",), targets=("epoch", "test_accuracy"))
    begun = torch.cuda.is_initialized()
    ((result, _),) = engine.run(
        manifest, ["mlp"], zoos=tiny_zoo.parent, results=tmp_path, seeds=[0], runtime=Runtime(device="cuda")
    )
    assert not result.failures
    (cell,) = result.cells
    assert cell.machine.gpu
    assert cell.gpu_memory_bytes
    assert {score.target for score in cell.scores if score.by == "encoder"} == {"epoch", "test_accuracy"}
    assert torch.cuda.is_initialized() == begun
