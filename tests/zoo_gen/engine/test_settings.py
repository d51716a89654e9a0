import subprocess
import sys

import pytest
import torch

from tests.zoo_gen.population import own_training
from zoo_gen import ZooManifest, find_manifest, read_manifest
from zoo_gen.engine.settings import choose_forms, training_settings
from zoo_gen.errors import ZooError
from zoo_gen.files.schema import parse_toml
from zoo_gen.population.cpu import convolutions


def test_a_cpu_says_that_it_computes_in_float32(tmp_path, caplog):
    path = tmp_path / "half.toml"
    path.write_text(
        find_manifest("tetris_seed").read_text().replace("[training]", '[training]\nprecision = "bfloat16"')
    )
    assert training_settings(read_manifest(path), device="cpu").kernels is None
    assert "tetris_seed: precision bfloat16 is a GPU's; a CPU computes in float32" in caplog.text


def test_a_gpu_that_cannot_run_the_kernels_trains_in_float32_or_not_at_all(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "an old one")
    manifest = read_manifest(find_manifest("tetris_seed"))
    assert training_settings(manifest, device="cuda").kernels is None
    assert "an old one has compute capability 7.5" in caplog.text
    path = tmp_path / "tf32.toml"
    path.write_text(find_manifest("tetris_seed").read_text().replace("[training]", '[training]\nprecision = "tf32"'))
    with pytest.raises(ZooError, match=r"training.precision 'tf32': an old one has compute capability 7.5"):
        training_settings(read_manifest(path), device="cuda")


def test_layers_that_our_kernels_do_not_know_are_trained_by_torch(monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    assert training_settings(read_manifest(find_manifest("mini_digits_resnet")), device="cuda").kernels is None
    assert "mini_digits_resnet: our kernels do not know batch_norm1; torch's own operations are used" in caplog.text


def test_a_network_that_begins_with_pooling_is_trained_by_torch(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    text = find_manifest("tetris_seed").read_text()
    start, stop = text.index("[architecture]"), text.index("[training]")
    layers = '{ type = "max_pooling", size = 2 }, { type = "flatten" }, { type = "linear", units = 4 }'
    path = tmp_path / "pooled.toml"
    path.write_text(f'{text[:start]}[architecture]\nname = "layers"\nlayers = [{layers}]\n\n{text[stop:]}'.replace(
        'activation = "tanh"\n', ""
    ))  # fmt: skip
    assert training_settings(read_manifest(path), device="cuda").kernels is None
    assert "not by pooling1" in caplog.text


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("label_smoothing = 0.1", "label_smoothing"),
        ("clip_norm = 1.0", "clip_norm"),
        ("flip = 0.5", "flip"),
        ("crop_padding = 1", "crop_padding"),
        (f'loss = "{own_training.__name__}:focal"', "loss"),
        (f'schedule = "{own_training.__name__}:saw"', None),
        ('schedule = "cosine"\nwarm_up_epochs = 2.0', None),
    ],
)
def test_what_kernels_do_not_know_is_trained_by_torch(monkeypatch, caplog, written, name):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    text = find_manifest("tetris_seed").read_text().replace("[training]", f"[training]\n{written}")
    manifest = parse_toml(text, ZooManifest, where="a test")
    assert training_settings(manifest, device="cuda").kernels == (None if name else "float32")
    assert (f"our kernels do not know this {name}" in caplog.text) == (name is not None)
    tf32 = parse_toml(text.replace("[training]", '[training]\nprecision = "tf32"'), ZooManifest, where="a test")
    if name:
        with pytest.raises(
            ZooError, match=f"training.precision 'tf32': .* do not know this {name}; expected 'float32'"
        ):
            training_settings(tf32, device="cuda")


def test_the_form_of_a_convolution_follows_from_a_rule(monkeypatch):
    cnn, mlp = (read_manifest(find_manifest(name)) for name in ("mini_digits_cnn", "tetris_seed"))
    monkeypatch.setattr(convolutions, "can_compile", lambda: True)
    names = ["convolution1", "convolution2", "convolution3"]
    assert choose_forms(cnn, device="cpu") == dict.fromkeys(names, "lanes")
    assert choose_forms(mlp, device="cpu") == choose_forms(cnn, device="cuda") == {}
    monkeypatch.setattr(convolutions, "can_compile", lambda: False)
    assert choose_forms(cnn, device="cpu") == {}  # torch's own


def test_the_form_is_chosen_without_torch():
    code = (
        "import sys; from zoo_gen import find_manifest, read_manifest; from zoo_gen.engine import settings;"
        "settings.choose_forms(read_manifest(find_manifest('mini_digits_cnn')), device='cpu');"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_form_of_another_version_is_refused():
    with pytest.raises(ZooError, match="has no patches; expected grouped or lanes"):
        convolutions.check({"convolution1": "lanes", "convolution2": "patches"})
