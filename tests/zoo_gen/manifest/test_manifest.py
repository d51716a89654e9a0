import pytest

from tests.conftest import TINY
from zoo_gen.errors import ZooError
from zoo_gen.files.schema import parse_toml
from zoo_gen.manifest import ZooManifest, find_manifest, read_manifest, shipped_manifests
from zoo_gen.store import Extent


def parse(text: str) -> ZooManifest:
    return parse_toml(text, ZooManifest, where="my.toml")


@pytest.mark.parametrize(
    ("written", "instead", "place", "message"),
    [
        ("epochs = 4", "epoch = 4", "training", "unknown key 'epoch'; did you mean 'epochs'?"),
        ("epochs = 4", "", "training.epochs", "is missing"),
        ("epochs = 4", "epochs = 0", "training.epochs", "greater than 0, got 0"),
        ("epochs = 4", "epochs = 4.5", "training.epochs", "valid integer, got 4.5"),
        ('source = "tetris"', 'source = "tetriss"', "data.source", "unknown source 'tetriss'; did you mean 'tetris'?"),
        ('source = "tetris"', "", "data.source", "is missing"),
        ("noise = 0.1", "nois = 0.1", "data", "unknown key 'nois'; did you mean 'noise'?"),
        ("noise = 0.1", "noise = 2", "data.noise", "less than or equal to 1, got 2"),
        (
            'name = "mlp"',
            'name = "mpl"',
            "architecture.name",
            "unknown name 'mpl'; did you mean 'mlp'? valid: cnn3_fc2",
        ),
        ("[16, 5, 4]", "[17, 5, 4]", "architecture.widths", "begins with 17; the images have 16 pixels"),
        ("[16, 5, 4]", "[16, 5, 3]", "architecture.widths", "ends with 3; expected a linear layer of 4 units"),
        ("[16, 5, 4]", "[16, 0, 4]", "architecture.widths[1]", "greater than 0, got 0"),
        ("batch_size = 32", "batch_size = 101", "training.batch_size", "exceeds the 100 training images"),
        ('"xavier_uniform"', '"xavier"', "training.initialization", "got 'xavier'"),
        ('initialization = "xavier_uniform"', "", "training.initialization", "is missing; expected here or as an axis"),
        ("epochs = 4", "epochs = 4\nseed = 1", "training.seed", "also stands in axes"),
        ("epochs = 4", "epochs = 4\nmomentum = 1.0", "training.momentum", "less than 1, got 1.0"),
        ("[1e-2, 3e-2]", '["1e-2"]', "axes.product", "learning_rate[0]: input should be a valid number, got '1e-2'"),
        ("[1e-2, 3e-2]", "[1e-2, -3e-2]", "axes.product", "learning_rate[1]: input should be greater than 0"),
        ("[1e-2, 3e-2]", "[1e-2, inf]", "axes.product", "learning_rate[1]: input should be a finite number, got inf"),
        ("[1e-2, 3e-2]", "[1e-2, 1e-2]", "axes", "product.learning_rate: holds a value twice"),
        ("[1e-2, 3e-2]", "[]", "axes.product.learning_rate", "is empty; expected at least one value"),
        ("learning_rate =", "learning_rat =", "axes.product", "unknown hyper-parameter 'learning_rat'; did you mean"),
        ("range = [1, 5]", "range = [5, 1]", "axes.product.seed", "range [5, 1] is empty"),
        ("range = [1, 5]", "range = [1, 5.0]", "axes.product.seed", "range must be two whole numbers"),
        ("{ range = [1, 5] }", "5", "axes.product.seed", "expected a list of values or { range"),
        ('["relu", "tanh"]', '["relu", "tahn"]', "axes.product", "activation[1]: input should be 'tanh', 'relu'"),
        ("[axes.product]", "[axes.produkt]", "axes", "unknown key 'produkt'; did you mean 'product'?"),
        ("train = 0.6", "train = 0.7", "split", "must add up to 1, got 1.1"),
        (
            'name = "tiny"',
            'name = "../tiny"',
            "name",
            "expected lower-case letters, digits, _ and -, with a letter or digit first",
        ),
        ("models_per_shard = 12", "models_per_shard = 0", "storage.models_per_shard", "greater than 0"),
        ("[data]", "[data", "", "not valid TOML"),
        ("epochs = 4", "epochs = 4\nlabel_smoothing = 1.0", "training.label_smoothing", "less than 1, got 1.0"),
        ("epochs = 4", "epochs = 4\nclip_norm = -1", "training.clip_norm", "greater than or equal to 0, got -1"),
        ("epochs = 4", "epochs = 4\nwarm_up_epochs = 4", "training.warm_up_epochs", "4 leaves none of 4 epochs"),
        ("epochs = 4", 'epochs = 4\nschedule = "step"', "training.decay_every", "is missing"),
        (
            "epochs = 4",
            'epochs = 4\nschedule = "cosin"',
            "training.schedule",
            "'milestones', or \"module:name\" of your",
        ),
        ("epochs = 4", "epochs = 4\nmilestones = [2]", "training.milestones", "is used by no part of this zoo"),
        ("epochs = 4", "epochs = 4\ndecay_factor = 0.5", "training.decay_factor", "is used by no part of this zoo"),
        ("epochs = 4", "epochs = 4\nmilestones = [3, 2]", "training.milestones", "a rising list of epochs above 0"),
        ("epochs = 4", 'epochs = 4\nmilestones = "2,3"', "training.milestones", "a rising list of epochs above 0"),
        ("epochs = 4", "epochs = 4\ncrop_padding = 5", "training.crop_padding", "5 exceeds the 4 pixels of a side"),
        ("epochs = 4", "epochs = 4\nflip = 1.5", "training.flip", "less than or equal to 1, got 1.5"),
        ("[split]", "[checkpoints]\nepochs = [0, 9]\n[split]", "checkpoints.epochs", "9 lies after the last epoch, 4"),
        ("[split]", "[checkpoints]\nepochs = [2, 1]\n[split]", "checkpoints.epochs", "a rising list such as"),
    ],
)
def test_bad_input_is_one_line_with_the_place_and_what_was_expected(written, instead, place, message):
    assert TINY.count(written) >= 1
    with pytest.raises(ZooError) as error:
        parse(TINY.replace(written, instead, 1))
    line = str(error.value)
    assert line.startswith(f"my.toml: {place}")
    assert message in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ("zip.seed = [1, 2]\nzip.momentum = [0.5]", "zip: axes must be of one length, but seed has 2, momentum has 1"),
        ("product.seed = [1]\nzip.seed = [1]", "seed: stands in more than one"),
        ("random = { count = 2, seed = 0, draw.activation.uniform = [0, 1] }", "its values are names; expected choice"),
        ("random = { count = 2, seed = 0, draw.seed = {} }", "exactly one of uniform, log_uniform, choice"),
        ("random = { count = 2, seed = 0, draw.seed.uniform = [3, 3] }", "bounds [3, 3] are empty"),
        ("random = { count = 2, seed = 0, draw.learning_rate.log_uniform = [0, 1] }", "must be positive"),
        ("random = { count = 0, seed = 0, draw.seed.uniform = [1, 3] }", "greater than 0, got 0"),
        ("", "the grid is empty; expected an axis"),
    ],
)
def test_axes_that_do_not_fit_are_refused(axes, message):
    head, rest = TINY.split("[axes.product]")
    with pytest.raises(ZooError) as error:
        parse(f"{head}\n[axes]\n{axes}\n[split]{rest.split('[split]')[1]}")
    assert message in str(error.value)


def test_the_digest_names_what_is_made_and_nothing_else():
    digest = parse(TINY).digest
    assert parse(TINY.replace("a zoo for tests", "another text")).digest == digest
    assert parse(TINY.replace("[axes.product]", "# a comment\n[axes.product]")).digest == digest
    assert parse(TINY.replace("{ range = [1, 5] }", "[1, 2, 3, 4, 5]")).digest == digest
    assert parse(TINY.replace("batch_size = 32", "batch_size = 32\nl2 = 0")).digest == digest  # the default
    assert parse(TINY.replace("epochs = 4", "epochs = 5")).digest != digest
    assert parse(TINY.replace('["adam", "sgd"]', '["sgd", "adam"]')).digest != digest


@pytest.mark.parametrize(
    ("name", "models", "checkpoints", "parameters"),
    [("tetris_seed", 1000, 76, 100), ("tetris_hyp", 3600, 76, 100), ("digits_hyp", 1008, 9, 1810)],
)
def test_shipped_zoos_have_the_extent_they_promise(name, models, checkpoints, parameters):
    manifest = read_manifest(find_manifest(name))
    extent = Extent.of(manifest)
    assert manifest.name == name
    assert (extent.n_models, extent.n_checkpoints, extent.n_parameters) == (models, checkpoints, parameters)


def test_every_shipped_manifest_is_valid():
    assert len(shipped_manifests()) >= 3
    for path in shipped_manifests().values():
        read_manifest(path)


def test_an_unknown_zoo_answers_with_the_known_ones():
    with pytest.raises(ZooError, match=r"unknown zoo 'tetris_sed'; did you mean 'tetris_seed'\? .* and \d+ more"):
        find_manifest("tetris_sed")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ZooError, match=r"none\.toml: cannot be read"):
        read_manifest(tmp_path / "none.toml")


@pytest.mark.parametrize("text", ["name = " + "9" * 5000, "name = " + "[" * 5000 + "]" * 5000])
def test_toml_that_python_cannot_hold_is_not_valid(text):
    with pytest.raises(ZooError, match="not valid TOML"):
        parse_toml(text, ZooManifest, where="x.toml")


def test_a_byte_order_mark_is_no_part_of_the_manifest(tiny_manifest):
    """Some editors begin a file of UTF-8 with one."""
    tiny_manifest.write_text(tiny_manifest.read_text(), encoding="utf-8-sig")
    assert read_manifest(tiny_manifest).name == read_manifest(str(tiny_manifest)).name == "tiny"


MORE = """
schedule = ["constant", "step", "milestones"]
milestones = [[1, 3], [2]]
label_smoothing = [0.0, 0.1]
"""


def test_schedules_and_milestones_are_axes_and_survive_toml():
    text = TINY.replace("[split]", f"{MORE}\n[split]").replace("epochs = 4", "epochs = 4\ndecay_every = 2")
    manifest = parse(text)
    assert manifest.n_models == 40 * 12
    rows = manifest.rows(slice(0, manifest.n_models))
    assert set(rows["milestones"].to_pylist()) == {"1, 3", "2"}
    assert set(rows["decay_factor"].to_pylist()) == {0.1}
    assert "clip_norm" not in rows.column_names
    again = parse(manifest.to_toml())
    assert again == manifest
    assert again.digest == manifest.digest


def test_a_manifest_that_names_defaults_is_the_same_zoo():
    plain = parse(TINY)
    named = parse(TINY.replace("epochs = 4", 'epochs = 4\nflip = 0\nclip_norm = 0.0\nloss = "standard"'))
    assert named.digest == plain.digest
    assert named.rows(slice(0, 40)).equals(plain.rows(slice(0, 40)))


def test_milestones_are_drawn():
    random = "[axes.random]\ncount = 20\nseed = 1\ndraw.milestones.choice = [[1], [2, 3]]\n"
    text = TINY.replace("[split]", f"{random}\n[split]").replace("epochs = 4", 'epochs = 4\nschedule = "milestones"')
    assert set(parse(text).rows(slice(0, 60))["milestones"].to_pylist()) == {"1", "2, 3"}


@pytest.mark.parametrize("name", ["label_smoothing", "flip", "crop_padding"])
def test_what_is_of_images_and_classes_is_refused_for_waves(name):
    document = {
        "name": "waves",
        "data": {"source": "sine"},
        "architecture": {"name": "siren"},
        "training": {"epochs": 1, "batch_size": 8, "optimizer": "adam", "learning_rate": 1e-4, "frequency": 1.0,
                     "initialization": "siren", name: 1 if name == "crop_padding" else 0.5},
        "axes": {"product": {"seed": [1]}},
    }  # fmt: skip
    with pytest.raises(ZooError, match=f"training.{name}: the data has no (classes|images of rows and columns)"):
        ZooManifest(**document)
