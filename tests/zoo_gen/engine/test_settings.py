import pytest
import torch

from zoo_gen import find_manifest, read_manifest
from zoo_gen.engine.settings import regime
from zoo_gen.errors import ZooError


def test_a_cpu_says_that_it_computes_in_float32(tmp_path, caplog):
    path = tmp_path / "half.toml"
    path.write_text(
        find_manifest("tetris_seed").read_text().replace("[training]", '[training]\nprecision = "bfloat16"')
    )
    assert regime(read_manifest(path), device="cpu").kernels is None
    assert "tetris_seed: precision bfloat16 is a GPU's; a CPU computes in float32" in caplog.text


def test_a_gpu_that_cannot_run_the_kernels_trains_in_float32_or_not_at_all(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "an old one")
    manifest = read_manifest(find_manifest("tetris_seed"))
    assert regime(manifest, device="cuda").kernels is None
    assert "an old one has compute capability 7.5" in caplog.text
    path = tmp_path / "tf32.toml"
    path.write_text(find_manifest("tetris_seed").read_text().replace("[training]", '[training]\nprecision = "tf32"'))
    with pytest.raises(ZooError, match=r"training.precision 'tf32': an old one has compute capability 7.5"):
        regime(read_manifest(path), device="cuda")


def test_a_network_that_begins_with_pooling_is_trained_by_torch(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    text = find_manifest("tetris_seed").read_text()
    start, stop = text.index("[architecture]"), text.index("[training]")
    layers = '{ type = "max_pooling", size = 2 }, { type = "flatten" }, { type = "linear", units = 4 }'
    path = tmp_path / "pooled.toml"
    path.write_text(f'{text[:start]}[architecture]\nname = "layers"\nlayers = [{layers}]\n\n{text[stop:]}'.replace(
        'activation = "tanh"\n', ""
    ))  # fmt: skip
    assert regime(read_manifest(path), device="cuda").kernels is None
    assert "not by pooling1" in caplog.text
