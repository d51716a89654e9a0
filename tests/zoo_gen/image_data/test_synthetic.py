import numpy as np
import pytest

from zoo_gen.image_data import Synthetic, load_image_data

DIGEST = "7020f454a2897cd894cd015c2f68a63e68341096561c22efc9ae30845efeb2ae"


def source(**changes: object) -> Synthetic:
    return Synthetic.model_validate({"source": "synthetic", "train_size": 600, "test_size": 300} | changes)


def nearest_mean_accuracy(**changes: object) -> float:
    """Return the test accuracy of the nearest class mean of the training images."""
    data = load_image_data(source(**changes))
    train, test = (images.reshape(len(images), -1).astype(float) for images in (data.train_images, data.test_images))
    means = np.stack([train[data.train_labels == kind].mean(axis=0) for kind in range(data.n_classes)])
    distances = ((test[:, None] - means) ** 2).sum(axis=2)
    return float((distances.argmin(axis=1) == data.test_labels).mean())


def test_the_task_is_learnable_until_noise_is_all_there_is():
    assert nearest_mean_accuracy() > 0.95
    assert nearest_mean_accuracy(noise=1.0) < 0.2


def test_it_is_a_pure_function_of_the_seed():
    assert load_image_data(source()).sha256() == DIGEST
    assert load_image_data(source(seed=1)).sha256() != DIGEST


@pytest.mark.parametrize(
    ("shape", "n_classes"), [((1, 28, 28), 10), ((3, 32, 32), 100), ((2, 5, 7), 3), ((1, 1, 1), 2)]
)
def test_any_shape_and_number_of_classes(shape, n_classes):
    data = load_image_data(source(image_shape=shape, n_classes=n_classes, validation_size=50))
    assert data.train_images.shape == (600, *shape)
    assert data.validation_images.shape == (50, *shape)
    assert data.train_images.dtype == np.uint8
    counts = np.bincount(data.train_labels, minlength=n_classes)
    assert len(counts) == n_classes
    assert counts.max() - counts.min() <= 1


def test_without_noise_every_image_is_the_picture_of_its_class():
    data = load_image_data(source(noise=0.0))
    assert len(np.unique(data.train_images, axis=0)) == 10
