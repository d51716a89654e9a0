import numpy as np
from sklearn.datasets import load_digits

from zoo_gen.image_data import Digits, load_image_data


def test_digits_are_scikit_learns_each_once():
    data = load_image_data(Digits(source="digits"))
    images = np.concatenate([data.tensors(part)[0].numpy() for part in ("train", "test")]).reshape(-1, 64)
    labels = np.concatenate([data.train_labels, data.test_labels])
    expected, expected_labels = load_digits(return_X_y=True)
    assert len(data.test_labels) == 360

    def rows(images: np.ndarray, labels: np.ndarray) -> list[tuple[float, ...]]:
        return sorted(map(tuple, np.column_stack([labels, images]).tolist()))

    assert rows(images, labels) == rows(expected / 16, expected_labels)


def test_the_bytes_of_published_zoos_stay():
    data = load_image_data(Digits(source="digits"))
    assert data.sha256() == "244bd6e66e120604695b5c659d53c86eb2af7b0c09a952114aa9ad55dfc15043"


def test_digits_in_another_size_are_pillows_of_the_levels_as_bytes():
    from PIL import Image

    plain, large = (load_image_data(Digits(source="digits", resize=size)) for size in (None, (28, 28)))
    assert large.train_images.shape == (1437, 1, 28, 28)
    assert large.train_labels.tolist() == plain.train_labels.tolist()
    byte = Image.fromarray(np.rint(plain.train_images[3, 0] * (255 / 16)).astype(np.uint8))
    np.testing.assert_array_equal(large.train_images[3, 0], np.array(byte.resize((28, 28), Image.Resampling.BILINEAR)))
    inputs = large.tensors("train")[0]
    assert 0 <= inputs.min() < inputs.max() <= 1
