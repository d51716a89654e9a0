import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.zoo_gen.image_data import published
from zoo_gen.errors import ZooError
from zoo_gen.image_data import ImageData, Torchvision
from zoo_gen.image_data.huggingface import HuggingFace
from zoo_gen.image_data.steps import Steps, apply, assemble


def colour(size: tuple[int, int] = (32, 32), **fields: object) -> HuggingFace:
    """Return a source of colour images of any size, of which nothing but the steps matters here."""
    described = {
        "source": "huggingface",
        "repository": "a/b",
        "revision": "0" * 40,
        "channels": 3,
        "size": size,
        "n_classes": 10,
        "train_size": 10,
        "test_size": 5,
    }
    return HuggingFace.model_validate(described | fields)


def put_together(source: Steps, n_train: int, n_test: int) -> ImageData:
    """Assemble images whose first pixel is their own number, and the labels likewise."""

    def numbered(shift: int, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        firsts = (chosen + shift).astype(np.uint8)[:, None, None, None]
        return apply(source, np.tile(firsts, (1, 3, 32, 32))), chosen % 10

    return assemble(
        source,
        n_train=n_train,
        n_test=n_test,
        n_classes=10,
        train=lambda chosen: numbered(0, chosen),
        test=lambda chosen: numbered(100, chosen),
        where="here",
    )


def numbers(images: np.ndarray) -> list[int]:
    return images[:, 0, 0, 0].tolist()


def test_grey_is_the_plain_mean_of_the_channels():
    images = published.pixels(5, 3, 32, 32)
    actual = apply(colour(grey=True), images)
    expected = [
        [[[round(sum(map(int, pixel)) / 3) for pixel in row] for row in image]]
        for image in images.transpose(0, 2, 3, 1)
    ]
    np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("resize", [28, 48, [28, 28], [40, 20]])
@pytest.mark.parametrize("size", [(32, 32), (30, 47), (47, 30)])
def test_resize_is_torchvisions(size, resize):
    from torchvision import transforms

    images = published.pixels(3, 3, *size)
    source = colour(size, resize=resize)
    actual = apply(source, images)
    of = transforms.Resize(resize)
    expected = [np.asarray(of(Image.fromarray(image.transpose(1, 2, 0)))).transpose(2, 0, 1) for image in images]
    np.testing.assert_array_equal(actual, expected)
    assert actual.shape[1:] == source.input_shape


@pytest.mark.parametrize("crop", [28, 27, [5, 30]])
@pytest.mark.parametrize("size", [(32, 32), (31, 47)])
def test_centre_crop_is_torchvisions(size, crop):
    from torchvision import transforms

    images = published.pixels(3, 3, *size)
    source = colour(size, center_crop=crop)
    np.testing.assert_array_equal(apply(source, images), transforms.CenterCrop(crop)(torch.from_numpy(images)).numpy())


@pytest.mark.parametrize(
    ("normalize", "mean", "deviation"),
    [
        ("unit", [0.0] * 3, [1.0] * 3),
        ("symmetric", [0.5] * 3, [0.5] * 3),
        ({"mean": [0.5071, 0.4867, 0.4408], "deviation": [0.2675, 0.2565, 0.2761]},) * 1
        + ([0.5071, 0.4867, 0.4408], [0.2675, 0.2565, 0.2761]),
    ],
)
def test_normalising_is_torchvisions(normalize, mean, deviation):
    from torchvision import transforms

    data = put_together(colour(normalize=normalize), 10, 5)
    images, labels = data.tensors("train", dtype=torch.float64)
    expected = transforms.Normalize(mean, deviation)(torch.from_numpy(data.train_images).double() / 255)
    torch.testing.assert_close(images, expected, rtol=0, atol=1e-12)
    single, _ = data.tensors("train")
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), expected, rtol=0, atol=1e-6)
    assert labels.tolist() == data.train_labels.tolist()


def test_all_images_keep_the_order_of_the_source():
    data = put_together(colour(seed=5), 10, 5)
    assert numbers(data.train_images) == list(range(10))
    assert numbers(data.test_images) == list(range(100, 105))
    assert data.validation_images.shape == (0, 3, 32, 32)
    assert data.tensors("validation")[0].shape == (0, 3, 32, 32)


def test_parts_are_chosen_by_the_seed():
    data = put_together(colour(train_size=12, validation_size=8, test_size=5, seed=3), 20, 9)
    order = np.random.RandomState(3).permutation(20).tolist()
    assert numbers(data.validation_images) == order[:8]
    assert numbers(data.train_images) == order[8:]
    assert numbers(data.test_images) == [100 + n for n in np.random.RandomState(3).permutation(9).tolist()[:5]]
    for part in ("train", "validation", "test"):
        images, labels = data.part(part)
        assert [number % 100 % 10 for number in numbers(images)] == labels.tolist()


def test_fewer_training_images_are_the_first_of_more_and_leave_the_validation_images():
    more, fewer = (put_together(colour(train_size=n, validation_size=6, seed=1), 30, 5) for n in (20, 7))
    assert numbers(fewer.train_images) == numbers(more.train_images)[:7]
    assert numbers(fewer.validation_images) == numbers(more.validation_images)


def test_the_digest_tells_a_part_from_another():
    digests = {
        put_together(colour(train_size=train, validation_size=validation), 10, 5).sha256()
        for train, validation in ((10, 0), (9, 1), (8, 2), (8, 0))
    }
    assert len(digests) == 4


@pytest.mark.parametrize(("n_train", "n_test", "part"), [(11, 5, "11 training"), (12, 4, "4 test")])
def test_fewer_images_than_wanted_are_refused(n_train, n_test, part):
    with pytest.raises(ZooError, match=f"^here: holds {part} images; expected (12|5) or more, as"):
        put_together(colour(train_size=10, validation_size=2), n_train, n_test)


def test_labels_outside_the_classes_are_refused():
    with pytest.raises(ZooError, match=r"^here: has labels from 0 to 9; expected 0 to 2 for n_classes = 3$"):
        assemble(
            colour(),
            n_train=10,
            n_test=5,
            n_classes=3,
            train=lambda chosen: (published.pixels(len(chosen), 3, 32, 32), chosen),
            test=lambda chosen: (published.pixels(len(chosen), 3, 32, 32), chosen),
            where="here",
        )


side = st.integers(1, 40)


@given(
    size=st.tuples(side, side),
    resize=st.none() | side | st.tuples(side, side),
    crop=st.none() | side,
    grey=st.booleans(),
)
def test_the_shape_is_known_before_the_images(size, resize, crop, grey):
    try:
        source = colour(size, resize=resize, center_crop=crop, grey=grey)
    except ValueError:
        # The one reason there can be: the crop is larger than an image, which torchvision would have padded.
        assert crop is not None
        assert crop > min(resize if isinstance(resize, tuple) else [resize or min(size)])
        return
    actual = apply(source, published.pixels(2, 3, *size))
    assert actual.shape == (2, *source.input_shape)
    assert actual.dtype == np.uint8
    assert actual.flags.c_contiguous


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"center_crop": 29}, r"center_crop: \[29, 29\] exceeds the images, which are \[28, 28\] by then"),
        (
            {"resize": 20, "center_crop": 21},
            r"center_crop: \[21, 21\] exceeds the images, which are \[20, 20\] by then",
        ),
        ({"resize": "small"}, r"expected a whole number of pixels or \[height, width\], got 'small'"),
        ({"resize": 0}, r"expected a whole number of pixels or \[height, width\], got 0"),
        ({"normalize": "none"}, r'expected "unit", "symmetric" or \{ mean = \[0.5\], deviation = \[0.5\] \}'),
        ({"normalize": {"mean": [0.1], "deviation": [0.0]}}, 'expected "unit", "symmetric"'),
        ({"normalize": {"mean": [0.1, 0.2], "deviation": [1, 1]}}, r"have \[2, 2\] numbers; expected 1 of each"),
        ({"train_size": 50_001, "validation_size": 10_000}, "train_size 50001 and validation_size 10000 exceed what"),
        ({"validation_size": 60_000}, "validation_size 60000 exceed what can be cut from 60000 training images"),
        ({"test_size": 10_001}, "test_size 10001 exceeds the 10000 test images"),
    ],
)
def test_what_does_not_fit_is_said_without_the_images(fields, message):
    with pytest.raises(ValueError, match=message):
        Torchvision.model_validate({"source": "torchvision", "dataset": "MNIST"} | fields)
