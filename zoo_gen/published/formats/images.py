"""The images that published zoos were trained on, as the [data] of a manifest, with the preprocessing of each paper."""

from typing import Any

from zoo_gen.errors import ZooError, unknown_name

_SIZES = {"MNIST": 28, "FashionMNIST": 28, "CIFAR10": 32, "SVHN": 32, "USPS": 16, "STL10": 96, "CIFAR100": 32}
_NAMES = {
    "mnist": "MNIST",
    "fashion_mnist": "FashionMNIST",
    "fashionmnist": "FashionMNIST",
    "fashion": "FashionMNIST",
    "fmnist": "FashionMNIST",
    "f_mnist": "FashionMNIST",
    "cifar10": "CIFAR10",
    "cifar": "CIFAR10",
    "cifar100": "CIFAR100",
    "svhn": "SVHN",
    "svhn_cropped": "SVHN",
    "usps": "USPS",
    "stl10": "STL10",
}


def dataset_of(text: str | None) -> str | None:
    """Return torchvision's name of the data set that a text names or is the name of a zoo of; the longest wins."""
    if not text:
        return None
    plain = text.lower().replace("-", "_").replace(" ", "_")
    if plain in _NAMES:
        return _NAMES[plain]
    inside = [name for name in sorted(_NAMES, key=len, reverse=True) if name in plain]
    return _NAMES[inside[0]] if inside else None


def checked(text: str | None) -> None:
    """Refuse a name of images that a caller gave and nobody knows."""
    if text is not None and text.lower().replace("-", "_").replace(" ", "_") not in _NAMES:
        raise ZooError(unknown_name("image data", text, _NAMES))


def small_cnn_zoo(dataset: str | None) -> dict[str, Any] | None:
    """Return the images of the Small CNN Zoo: at their size, in [-1, 1], the mean of the colours."""
    if dataset is None:
        return None
    steps = {"grey": True} if dataset in ("CIFAR10", "SVHN") else {}
    return {"source": "torchvision", "dataset": dataset, "normalize": "symmetric", **steps}


def model_zoos(dataset: str | None, *, size: int) -> dict[str, Any] | None:
    """Return the images of the ModelZoos of 2022 and their forerunners of 2021, for networks of images of a size."""
    if dataset is None:
        return None
    channels = 1 if dataset in ("MNIST", "FashionMNIST", "USPS") else 3
    steps: dict[str, Any] = {}
    if dataset == "SVHN":
        steps, channels = {"grey": True, "center_crop": size}, 1
    elif _SIZES[dataset] != size:
        steps = {"resize": [size, size]}
    mean, deviation = (0.1307, 0.3081) if dataset in ("MNIST", "USPS") else (0.5, 0.5)
    normalize = {"mean": [mean] * channels, "deviation": [deviation] * channels}
    return {"source": "torchvision", "dataset": dataset, "normalize": normalize, **steps}


def of_fields(dataset: str | None) -> dict[str, Any] | None:
    """Return the images of implicit representations: 28 x 28, or 32 x 32 of CIFAR-10 and SVHN."""
    return scaled(dataset, size=32 if dataset in ("CIFAR10", "SVHN") else 28)


def scaled(dataset: str | None, *, size: int) -> dict[str, Any] | None:
    """Return images in [0, 1], resized where they have another size."""
    if dataset is None:
        return None
    resize = {} if _SIZES[dataset] == size else {"resize": [size, size]}
    return {"source": "torchvision", "dataset": dataset, "normalize": "unit", **resize}
