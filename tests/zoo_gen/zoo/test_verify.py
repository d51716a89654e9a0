import hashlib
import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import zarr
from click.testing import CliRunner

from zoo_gen import engine
from zoo_gen.cli.main import main
from zoo_gen.errors import ZooError
from zoo_gen.store import Store
from zoo_gen.zoo import open_zoo
from zoo_gen.zoo.verify import verify

CNN = """
name = "cnn"
[data]
source = "synthetic"
train_size = 64
test_size = 50
image_shape = [1, 28, 28]
[architecture]
name = "small_cnn_gap"
[training]
epochs = 6
batch_size = 16
optimizer = "adam"
learning_rate = 1e-2
initialization = "glorot_normal"
activation = "relu"
[axes.product]
seed = { range = [1, 4] }
[storage]
models_per_shard = 2
"""


@pytest.fixture(scope="module")
def cnn_zoo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cnn")
    (folder / "cnn.toml").write_text(CNN)
    engine.run(folder / "cnn.toml", folder / "cnn", workers=1)
    return folder / "cnn"


@pytest.fixture
def copy(tmp_path, cnn_zoo):
    return shutil.copytree(cnn_zoo, tmp_path / "cnn")


@pytest.mark.parametrize("zoo", ["cnn_zoo", "tiny_zoo"])
def test_a_sound_zoo_is_found_sound(zoo, request):
    report = verify(request.getfixturevalue(zoo), sample=28)
    assert report.findings == ()
    assert report.evaluated_checkpoints == 28


def test_a_zoo_of_waves_is_found_sound(tmp_path):
    (tmp_path / "waves.toml").write_text(
        """
name = "waves"
[data]
source = "sine"
points = 50
[architecture]
name = "siren"
[training]
epochs = 3
batch_size = 50
optimizer = "adam"
learning_rate = 1e-3
initialization = "siren"
initial_bias = 0
[axes.random]
count = 5
seed = 0
draw.seed.uniform = [0, 1000]
draw.frequency.uniform = [0.5, 10.0]
"""
    )
    engine.run(tmp_path / "waves.toml", tmp_path / "waves", workers=1)
    report = verify(tmp_path / "waves")
    assert (report.models, report.evaluated_checkpoints, report.findings) == (5, 20, ())


@pytest.mark.parametrize("seed", range(30))
def test_one_flipped_bit_is_found(copy, seed):
    """In any file of arrays or tables, at a random place; what no reader uses may keep its bits."""
    random = np.random.RandomState(seed)
    files = sorted([*copy.glob("weights.zarr/*/c/**/*"), *copy.glob("models/*.parquet")])
    files = [path for path in files if path.is_file()]
    path = files[random.randint(len(files))]
    content = bytearray(path.read_bytes())
    place = random.randint(len(content))
    content[place] ^= 1 << random.randint(8)
    path.write_bytes(content)
    assert verify(copy, sample=0).findings, f"{path.name}, byte {place} of {len(content)}"


def test_one_swapped_kernel_is_found_by_digest_and_by_evaluation(copy):
    zoo = open_zoo(copy)
    weights = zoo.weights[2].copy()
    kernels = zoo.layout.split(weights)["convolution2.weight"]
    kernels[:, [0, 1]] = kernels[:, [1, 0]]
    parts = {p.name: p for p in zoo.layout.parameters}["convolution2.weight"]
    weights[:, parts.start : parts.stop] = kernels.reshape(len(kernels), -1)
    zarr.open_group(copy / "weights.zarr", mode="r+")["weights"][2] = weights
    assert any(line.startswith("shard 1: model 2: sha256 is") for line in verify(copy, sample=0).findings)

    # Even one who mends the digest is found out by what the network computes.
    store = Store.open(copy)
    store.write_shard(1, {name: store.array(name)[2:4] for name in store.extent.arrays()}, device="cpu")
    assert verify(copy, sample=0).findings == ()
    findings = verify(copy, sample=28).findings
    assert any("model 2, epoch" in line and "its weights give test_loss" in line for line in findings), findings


def test_a_wrong_cell_of_the_table_is_named(copy):
    path = Store.open(copy).part_path(0)
    table = pq.read_table(path)
    position = table.column_names.index("learning_rate")
    pq.write_table(table.set_column(position, "learning_rate", [[0.01, 0.02]]), path)
    line, *_ = verify(copy, sample=0).findings
    assert line == "shard 0: model 1: learning_rate is 0.02; the manifest and the arrays give 0.01"


def test_the_command_reports_and_ends_with_one(copy, cnn_zoo):
    sound = CliRunner().invoke(main, ["verify", str(cnn_zoo), "--sample", "3"])
    assert sound.exit_code == 0
    assert sound.output.endswith("4 models hashed, 3 checkpoints evaluated: sound\n")
    Store.open(copy).part_path(1).write_bytes(b"")
    broken = CliRunner().invoke(main, ["verify", str(copy), "--sample", "0"])
    assert broken.exit_code == 1
    assert "shard 1: models/part-00001.parquet: cannot be read" in broken.output


def test_other_image_data_is_refused(copy, monkeypatch):
    monkeypatch.setattr("zoo_gen.image_data.arrays.ImageData.sha256", lambda _: "0" * 64)
    with pytest.raises(ZooError, match="is not what the zoo was made from"):
        verify(copy)


def test_a_part_that_names_another_manifest_is_found(copy):
    path = copy / "models" / "part-00001.parquet"
    table = pq.read_table(path)
    origin = json.loads(table.schema.metadata[b"zoo"]) | {"manifest_digest": "0" * 64}
    pq.write_table(table.replace_schema_metadata({"zoo": json.dumps(origin)}), path, write_page_checksum=True)
    (finding,) = verify(copy, sample=0).findings
    assert finding == "shard 1: models/part-00001.parquet: its metadata do not say which manifest and pyarrow made it"


def test_epochs_that_were_changed_together_with_their_digest_are_found(copy):
    path = copy / "weights.zarr" / "epoch" / "c" / "0"
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    zarr.open_array(copy / "weights.zarr" / "epoch", mode="r+")[1] = 5
    listed = copy / "SHA256SUMS"
    listed.write_text(listed.read_text().replace(before, hashlib.sha256(path.read_bytes()).hexdigest()))
    (finding,) = verify(copy, sample=0).findings
    assert finding == "weights.zarr/epoch: is not what the manifest gives"


def test_a_zoo_whose_images_are_not_there_is_hashed_and_the_report_says_so(tiny_zoo, monkeypatch, tmp_path):
    def missing(source, *, data_root=None):
        raise ZooError(f"{data_root}: has no images")

    monkeypatch.setattr("zoo_gen.zoo.verify.load_image_data", missing)
    report = verify(tiny_zoo)
    assert (report.models, report.evaluated_checkpoints, report.sound) == (40, 0, True)
    assert report.notes == ("no checkpoint was evaluated: None: has no images",)
    with pytest.raises(ZooError, match="has no images"):  # where somebody says where they are
        verify(tiny_zoo, data_root=tmp_path)
