import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from zoo_gen import ZooError, open_zoo

PARTS = ("train", "validation", "test")


def test_every_sample_is_the_checkpoint_that_models_and_epochs_name(tiny_zoo):
    zoo = open_zoo(tiny_zoo)
    for part in PARTS:
        samples = zoo.torch_dataset(part, target="test_accuracy")
        assert sorted(zip(samples.models.tolist(), samples.epochs.tolist(), strict=True)) == sorted(
            (model, epoch) for model in zoo.split(part).tolist() for epoch in zoo.epochs.tolist()
        )
        for position in range(0, len(samples), 7):
            weights, accuracy = samples[position]
            model, epoch = int(samples.models[position]), int(samples.epochs[position])
            flat = torch.cat([tensor.flatten() for tensor in zoo.state_dict(model, epoch).values()])
            torch.testing.assert_close(weights, flat, rtol=0, atol=0)
            assert accuracy == zoo.test_accuracy[model, zoo.checkpoint(epoch)]


@pytest.mark.parametrize("tensors", [False, True])
def test_a_batch_read_from_the_disk_is_that_of_memory(tiny_zoo, tensors):
    zoo = open_zoo(tiny_zoo)
    ample, scarce = (zoo.torch_dataset("train", tensors=tensors, memory=memory) for memory in (2**31, 0))
    chosen = np.random.RandomState(0).randint(0, len(ample), 50).tolist()
    for one, other in zip(ample.__getitems__(chosen), scarce.__getitems__(chosen), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_tensors_are_the_state_dict(tiny_zoo):
    zoo = open_zoo(tiny_zoo)
    samples = zoo.torch_dataset("test", epochs=[4], tensors=True)
    for position, model in enumerate(samples.models.tolist()):
        torch.testing.assert_close(dict(samples[position]), zoo.state_dict(model, 4), rtol=0, atol=0)


def test_targets_are_columns_metrics_epochs_and_names(tiny_zoo):
    zoo = open_zoo(tiny_zoo)
    optimizer = zoo.torch_dataset("train", target="optimizer")
    names = dict(zip(zoo.models["model_id"].to_pylist(), zoo.models["optimizer"].to_pylist(), strict=True))
    assert [optimizer.classes[position] for position in optimizer.targets] == [names[m] for m in optimizer.models]
    rate, epoch, gap = (
        zoo.torch_dataset("train", target=name) for name in ("learning_rate", "epoch", "generalization_gap")
    )
    rates = zoo.models["learning_rate"].to_numpy()
    np.testing.assert_array_equal(rate.targets, rates[rate.models].astype(np.float32))
    np.testing.assert_array_equal(epoch.targets, epoch.epochs)
    difference = zoo.train_accuracy[:] - zoo.test_accuracy[:]
    np.testing.assert_array_equal(gap.targets, difference[gap.models, gap.epochs])


def test_what_an_encoder_changes_changes_no_other_sample(tiny_zoo):
    samples = open_zoo(tiny_zoo).torch_dataset("train")
    samples[3].zero_()
    assert samples[3].abs().sum() > 0


@pytest.mark.thorough  # what its worker gets is a pickled dataset, below
def test_a_loader_with_workers_gives_every_sample_once(tiny_zoo):
    samples = open_zoo(tiny_zoo).torch_dataset("train", target="epoch")
    loader = DataLoader(samples, batch_size=16, num_workers=1, multiprocessing_context="spawn")
    epochs = torch.cat([target for _, target in loader])
    np.testing.assert_array_equal(epochs, samples.epochs)


def test_a_dataset_can_be_pickled(tiny_zoo):
    samples = open_zoo(tiny_zoo).torch_dataset("test", target="test_loss")
    torch.testing.assert_close(pickle.loads(pickle.dumps(samples))[5], samples[5], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "all"}, "unknown part of the split 'all'"),
        ({"target": "accuracy"}, "unknown target 'accuracy'"),
        ({"target": "test_class_f1"}, "is a number a class"),
        ({"epochs": [9]}, "no checkpoint of epoch 9"),
    ],
)
def test_what_is_not_there_is_named(tiny_zoo, arguments, message):
    with pytest.raises(ZooError, match=message):
        open_zoo(tiny_zoo).torch_dataset(**arguments)


def test_the_long_form_has_a_row_a_checkpoint(tiny_zoo):
    zoo = open_zoo(tiny_zoo)
    frame = zoo.to_pandas()
    assert len(frame) == 40 * 5
    for row in frame.sample(20, random_state=0).itertuples():
        checkpoint = zoo.checkpoint(row.epoch)
        assert row.test_accuracy == zoo.test_accuracy[row.model_id, checkpoint]
        assert row.test_class_f1_2 == zoo.test_class_f1[row.model_id, checkpoint, 2]
        assert row.learning_rate == zoo.models["learning_rate"][row.model_id].as_py()


def test_samples_are_graphs_that_a_loader_stacks(tiny_zoo):
    zoo = open_zoo(tiny_zoo)
    samples = zoo.torch_dataset("test", target="test_accuracy", graphs=True)
    graph, _ = samples[7]
    flat, _ = zoo.torch_dataset("test", target="test_accuracy")[7]
    assert {name: tuple(values.shape) for name, values in graph.items()} == {
        "nodes": (25, 5),
        "edges": (100, 1),
        "edge_index": (2, 100),
    }
    torch.testing.assert_close(graph["edges"][:, 0], flat)
    batch, accuracies = next(iter(DataLoader(samples, batch_size=6)))
    assert batch["edges"].shape == (6, 100, 1)
    assert accuracies.shape == (6,)
    with pytest.raises(ZooError, match="got tensors and graphs; expected one"):
        zoo.torch_dataset("test", tensors=True, graphs=True)
