"""Populations on real images land where plain torch loops land: with other draws, but in the same distribution."""

import numpy as np
import pytest
import torch
from scipy import stats

from tests import plain_loop
from tests.zoo_gen.population.test_train import models
from zoo_gen.architecture.registry import CNNSmall, SmallCNNGap
from zoo_gen.image_data import Idx, load_image_data
from zoo_gen.population.population import TrainingSettings
from zoo_gen.population.train import train

MODELS, EPOCHS, BATCH, IMAGES = 12, 6, 32, 3000


def source(folder: str) -> Idx:
    return Idx(source="idx", folder=folder, normalize="symmetric", train_size=IMAGES, test_size=1000)


def accuracies_of_loops(build, data) -> list[float]:
    """Train as many models by torch alone: its own initial weights, its own shuffling, its own Adam."""
    inputs, labels = data.tensors("train")
    test_inputs, test_labels = data.tensors("test")
    actual = []
    for seed in range(MODELS):
        torch.manual_seed(seed)
        model = build(torch.nn.ReLU, torch.nn.Identity)
        for module in model.modules():
            if hasattr(module, "weight"):
                torch.nn.init.kaiming_uniform_(module.weight)
                torch.nn.init.constant_(module.bias, 0.01)
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
        for _ in range(EPOCHS):
            for batch in torch.randperm(IMAGES).split(BATCH):
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(model(inputs[batch]), labels[batch]).backward()
                optimizer.step()
        with torch.no_grad():
            actual.append((model(test_inputs).argmax(dim=1) == test_labels).double().mean().item())
    return actual


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "build", "folder", "at_least"),
    [
        (SmallCNNGap(name="small_cnn_gap"), plain_loop.small_cnn_gap, "fashion-mnist", 0.65),
        (CNNSmall(name="cnn_small"), plain_loop.cnn_small(1), "fashion-mnist", 0.65),
        (SmallCNNGap(name="small_cnn_gap"), plain_loop.small_cnn_gap, "mnist-10k", 0.75),
    ],
    ids=["gap on fashion", "cnn_small on fashion", "gap on mnist"],
)
def test_accuracies_rise_and_land_where_plain_loops_land(data_root, architecture, build, folder, at_least):
    data = load_image_data(source(folder), data_root=data_root)
    table = models(
        seed=list(range(MODELS)),
        activation=["relu"],
        initialization=["kaiming_uniform"],
        learning_rate=[3e-3],
        batch_size=[BATCH],
    )
    actual = train(architecture, data, table, TrainingSettings(epochs=EPOCHS), checkpoint_epochs=[0, 1, EPOCHS]).arrays
    first, last = actual["test_accuracy"][:, 0], actual["test_accuracy"][:, -1]
    loops = accuracies_of_loops(build, data)
    assert np.median(first) < 0.3 < at_least < np.median(last)
    assert (actual["test_accuracy"][:, 1] > first).mean() > 0.8
    error = np.hypot(np.std(last), np.std(loops)) / MODELS**0.5 * 1.25  # standard error of a difference of medians
    assert abs(np.median(last) - np.median(loops)) < 3 * error
    assert stats.ks_2samp(last, loops).pvalue > 0.01
