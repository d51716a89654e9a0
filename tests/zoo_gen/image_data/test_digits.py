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
