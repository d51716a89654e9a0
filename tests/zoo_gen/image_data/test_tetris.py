import numpy as np
import torch

from zoo_gen.image_data import Tetris, load_image_data

SHAPES = {
    0: {"11/11"},
    1: {"1111"},
    2: {"10/10/11"},
    3: {"011/110"},
}


def drawn(image: np.ndarray) -> str:
    """Return an image without its empty borders as rows of digits."""
    rows, columns = image.any(axis=1), image.any(axis=0)
    return "/".join("".join(map(str, row)) for row in image[np.ix_(rows, columns)].astype(int))


def test_tetris_without_noise_shows_each_class_in_every_place():
    data = load_image_data(Tetris(source="tetris", noise=0.0))
    images, labels = data.tensors("train")
    pairs = zip(images.numpy(), labels.tolist(), strict=True)
    actual = {(label, image.tobytes()): image[0] for image, label in pairs}
    for (label, _), image in actual.items():
        assert set(np.unique(image.round(6))) == {0.0, 1.0}
        assert image.sum().round(6) == 4
        assert drawn(image.round()) in SHAPES[label]
    # Bounding boxes of 2x2, 1x4, 3x2 and 2x3 have this many places in a 4x4 image.
    assert [sum(label == kind for label, _ in actual) for kind in range(4)] == [9, 4, 6, 6]


def test_tetris_with_rotations_has_every_orientation():
    data = load_image_data(Tetris(source="tetris", noise=0.0, rotations=True))
    images, labels = data.tensors("train")
    kinds = {kind: {drawn(image[0].numpy().round()) for image in images[labels == kind]} for kind in range(4)}
    assert [len(kinds[kind]) for kind in range(4)] == [1, 2, 4, 2]


def test_tetris_noise_has_its_deviation_and_classes_are_balanced():
    data = load_image_data(Tetris(source="tetris", noise=0.2, train_size=4000))
    clean = load_image_data(Tetris(source="tetris", noise=0.0, train_size=4000))
    images, labels = data.tensors("train", dtype=torch.float64)
    same = clean.tensors("train", dtype=torch.float64)[1]
    assert torch.equal(labels, same)
    assert torch.bincount(labels).tolist() == [1000] * 4
    background = images[labels == 0][:, 0, 0, 0]  # of an O in the far corner this is mostly ground
    ground = background[background < 0.5]
    assert abs(ground.std().item() - 0.2) < 0.03
    assert data.sha256() != clean.sha256()
    assert data.sha256() == load_image_data(Tetris(source="tetris", noise=0.2, train_size=4000)).sha256()


def test_the_bytes_of_published_zoos_stay():
    data = load_image_data(Tetris(source="tetris"))
    assert data.sha256() == "05a69599d364c5a56b4160c2d33e660f4afcdbe19da5017d7dba1ecc8c9fb37f"
