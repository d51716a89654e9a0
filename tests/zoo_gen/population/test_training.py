"""What a manifest's [training] can say beyond a rate and an optimiser, against plain torch loops in float64."""

import warnings

import numpy as np
import pyarrow as pa
import pytest
import torch

from tests import plain_loop
from tests.plain_loop import inputs_of, train_alone, vector
from tests.zoo_gen.population.test_train import NETWORKS, forms_of, models, relative_difference, synthetic
from zoo_gen.architecture.registry import layers
from zoo_gen.errors import ZooError
from zoo_gen.image_data import load_image_data
from zoo_gen.population.population import TrainingSettings
from zoo_gen.population.random import data_order
from zoo_gen.population.schedules import Schedule
from zoo_gen.population.train import train

BATCH, IMAGES, EPOCHS = 8, 34, 4
STEPS_PER_EPOCH = 5  # the last one short
GRAMMAR = {
    "label smoothing": {"label_smoothing": [0.0, 0.1, 0.6]},
    "clipping": {"clip_norm": [0.0, 0.05, 0.5, 5.0], "optimizer": ["sgd"], "learning_rate": [0.3], "l2": [1e-2]},
    "clipping by adam": {"clip_norm": [0.0, 0.05, 0.5], "weight_decay": [1e-2]},
    "nesterov": {
        "optimizer": ["nesterov", "momentum", "sgd", "nesterov"],
        "momentum": [0.9, 0.9, 0.0, 0.5],
        "weight_decay": [0.0, 1e-2],
    },
    "warm-up": {"warm_up_epochs": [0.0, 1.0, 1.5, 3.0], "schedule": ["constant"]},
    "cosine": {"warm_up_epochs": [0.0, 2.0], "schedule": ["cosine"]},
    "decay": {
        "schedule": ["step", "milestones", "step", "constant", "one_cycle"],
        "decay_every": [1, 2, 2],
        "milestones": ["1, 3", "2", "1, 2, 3"],
        "decay_factor": [0.5, 0.1, 0.9],
    },
    "crops": {"crop_padding": [0, 1, 3, 8]},
    "flips": {"flip": [0.0, 0.3, 1.0]},
    "everything": {
        "optimizer": ["nesterov", "adam", "rmsprop", "nesterov", "adamw", "sgd"],
        "momentum": [0.9, 0.0, 0.0, 0.8, 0.0, 0.0],
        "label_smoothing": [0.0, 0.2],
        "clip_norm": [0.5, 0.0, 1.0],
        "schedule": ["cosine", "step", "milestones", "constant", "step", "one_cycle"],
        "warm_up_epochs": [1.2, 0.0, 1.0, 2.0, 3.0, 0.0],
        "decay_every": [1],
        "milestones": ["2, 3"],
        "decay_factor": [0.3],
        "crop_padding": [2, 0, 4],
        "flip": [0.5],
    },
}
_WORD = 2**64 - 1


def mixed(word: int) -> int:
    """Return SplitMix64's output function of a word."""
    word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 & _WORD
    word = (word ^ (word >> 27)) * 0x94D049BB133111EB & _WORD
    return word ^ (word >> 31)


def drawn(seed: int, epoch: int, image: int, *, padding: int, flip: float) -> tuple[int, int, bool]:
    """Return where the crop of a padded image begins (row, column), and whether it is mirrored."""
    golden, purpose = 0x9E3779B97F4A7C15, 5
    key = mixed(seed + golden & _WORD)
    key = mixed(key + purpose * golden & _WORD)
    key = mixed(key + epoch * golden & _WORD)
    word = mixed(key + (image + 1) * golden & _WORD)
    row, column, mirror = (word >> shift & 0xFFFFF for shift in (0, 20, 40))
    return row * (2 * padding + 1) >> 20, column * (2 * padding + 1) >> 20, mirror < round(flip * 2**20)


def augmented(pixels: np.ndarray, model: dict, epoch: int, image: int) -> np.ndarray:
    """Return the bytes (channel, height, width) of an image after its crop and flip, through a padded copy."""
    padding, (_, height, width) = model["crop_padding"], pixels.shape
    row, column, mirrored = drawn(model["seed"], epoch, image, padding=padding, flip=model["flip"])
    padded = np.pad(pixels, ((0, 0), (padding, padding), (padding, padding)))
    crop = padded[:, row : row + height, column : column + width]
    return crop[:, :, ::-1] if mirrored else crop


def compared(network: str, columns: dict, *, form: str | None = None) -> None:
    """Train a population and hold each of its models against a plain loop of 20 steps."""
    architecture, build, shape = NETWORKS[network]
    data = load_image_data(synthetic(shape, train_size=IMAGES))
    defaults = {"activation": ["tanh", "relu"], "batch_size": [BATCH], "learning_rate": [1e-2, 3e-3, 1e-3]}
    table = models(**{"crop_padding": [0], "flip": [0.0]} | defaults | columns)
    forms = forms_of(layers(architecture, shape, 10), form)
    settings = TrainingSettings(epochs=EPOCHS, dtype=torch.float64, forms=forms)
    weights = train(architecture, data, table, settings, checkpoint_epochs=[0, EPOCHS]).arrays["weights"]
    scale, offset = (torch.tensor(values).view(-1, 1, 1) for values in (data.scale, data.offset))
    for row, model in enumerate(table.to_pylist()):

        def changed(_, step, batch, model=model):
            epoch = step // STEPS_PER_EPOCH + 1
            pixels = np.stack([augmented(data.train_images[image], model, epoch, int(image)) for image in batch])
            return torch.from_numpy(pixels.copy()).double() * scale + offset

        orders = np.stack([data_order(torch.tensor([model["seed"]]), e, IMAGES)[0] for e in range(1, EPOCHS + 1)])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's schedulers, of each other
            alone = train_alone(
                build,
                inputs_of(data),
                torch.from_numpy(data.train_labels),
                model,
                initial=weights[row, 0],
                batches=list(plain_loop.batches_of(orders, BATCH)),
                steps_per_epoch=STEPS_PER_EPOCH,
                changed=changed,
            )
        assert relative_difference(weights[row, 1], vector(alone)) < 1e-10, model


@pytest.mark.parametrize("name", GRAMMAR)
def test_models_of_a_population_equal_plain_torch_loops(name):
    compared("mlp", GRAMMAR[name])


@pytest.mark.parametrize(("network", "form"), [("cnn_small_colour", "lanes"), ("layers", "mixed"), ("layers", None)])
def test_convolutions_equal_plain_torch_loops(network, form):
    if form:
        pytest.importorskip("llvmlite")
    compared(network, GRAMMAR["everything"], form=form)


@pytest.mark.parametrize(
    ("settings", "warm_up"),
    [
        ({"schedule": "cosine"}, 0.0),
        ({"schedule": "cosine"}, 2.5),
        ({"schedule": "step", "decay_every": 3, "decay_factor": 0.7}, 0.0),
        ({"schedule": "step", "decay_every": 2, "decay_factor": 0.7}, 3.4),
        ({"schedule": "milestones", "milestones": "1, 4, 9", "decay_factor": 0.5}, 2.0),
        ({"schedule": "one_cycle"}, 0.0),
        ({"schedule": "constant"}, 5.0),
    ],
)
def test_schedules_are_those_of_torch(settings, warm_up):
    steps_per_epoch, n_epochs = 7, 11
    row = {"learning_rate": 0.3, "warm_up_epochs": warm_up, **settings}
    update = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torchs = plain_loop.make_schedule(update, row, steps_per_epoch=steps_per_epoch, n_steps=77)
        expected = []
        for _ in range(77):
            expected.append(update.param_groups[0]["lr"])
            torchs.step()
    milestones = tuple(map(int, settings.get("milestones", "1").split(", ")))
    schedule = Schedule(
        settings["schedule"],
        warm_up_epochs=warm_up,
        decay_every=settings.get("decay_every"),
        milestones=milestones,
        decay_factor=settings.get("decay_factor", 1.0),
    )
    rates = [0.3 * schedule.factor(step, steps_per_epoch=steps_per_epoch, n_epochs=n_epochs) for step in range(77)]
    np.testing.assert_allclose(rates, expected, rtol=1e-12, atol=1e-15)


def test_a_warm_up_comes_before_a_cycle():
    one_cycle = Schedule("one_cycle")
    later = Schedule("one_cycle", warm_up_epochs=2.0)
    sizes = {"steps_per_epoch": 5}
    after = [later.factor(step, n_epochs=6, **sizes) for step in range(10, 30)]
    assert after == [one_cycle.factor(step, n_epochs=4, **sizes) for step in range(20)]
    before = [later.factor(step, n_epochs=6, **sizes) for step in range(10)]
    np.testing.assert_allclose(before, np.arange(1, 11) / 10 / 25)


@pytest.mark.parametrize(("network", "form"), [("mlp", None), ("cnn_small", "lanes"), ("layers", "lanes")])
def test_a_model_has_the_same_bytes_alone_and_in_company(network, form):
    if form:
        pytest.importorskip("llvmlite")
    architecture, _, shape = NETWORKS[network]
    data = load_image_data(synthetic(shape, train_size=40))
    table = models(activation=["tanh", "relu", "gelu"], **GRAMMAR["everything"])
    # Models that use nothing of it, which alone are trained without it.
    plain = {"label_smoothing": [0.0], "clip_norm": [0.0], "crop_padding": [0], "flip": [0.0], "warm_up_epochs": [0.0]}
    plain |= {"schedule": ["constant"], "decay_every": [1], "milestones": ["2, 3"], "decay_factor": [0.3]}
    others = models(optimizer=["adam", "sgd"], seed=[7, 8], activation=["relu"], **plain)
    table = pa.concat_tables([table, others.select(table.column_names)])
    settings = TrainingSettings(epochs=3, forms=forms_of(layers(architecture, shape, 10), form))
    together = train(architecture, data, table, settings, checkpoint_epochs=[0, 1, 3]).arrays
    for row in range(len(table)):
        one = table.slice(row, 1)
        if row >= 6:
            one = one.drop_columns([name for name in plain if name != "schedule"])
        alone = train(architecture, data, one, settings, checkpoint_epochs=[0, 1, 3]).arrays
        for name, values in alone.items():
            assert values[0].tobytes() == together[name][row].tobytes(), (row, name)


def test_an_epoch_has_its_own_crops_and_evaluation_has_none():
    architecture, _, shape = NETWORKS["mlp"]
    data = load_image_data(synthetic(shape))
    table = models(learning_rate=[1e-30], crop_padding=[0, 6], flip=[0.0, 0.5], seed=[3], optimizer=["sgd"])
    trained = train(architecture, data, table, TrainingSettings(epochs=2), checkpoint_epochs=[1, 2]).arrays
    plain, cropped = trained["running_loss"].tolist()
    assert plain[0] == pytest.approx(plain[1], rel=1e-6)  # of the same weights, in another order
    assert len({round(loss, 4) for loss in (plain[0], *cropped)}) == 3
    assert trained["train_loss"][0].tobytes() == trained["train_loss"][1].tobytes()


def test_what_kernels_do_not_know_is_refused_by_them():
    architecture, _, shape = NETWORKS["mlp"]
    data, settings = load_image_data(synthetic(shape)), TrainingSettings(epochs=1, kernels="float32")
    for name, value in {"label_smoothing": 0.5, "clip_norm": 0.5, "flip": 0.5, "crop_padding": 1}.items():
        with pytest.raises(ZooError, match=f"^{name}: our kernels do not know it"):
            train(architecture, data, models(**{name: [value]}), settings, checkpoint_epochs=[1])
