import dataclasses
import gzip
import hashlib
import shutil
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch
from torchvision import datasets

from tests.files_server import serve
from tests.zoo_gen.image_data import published
from zoo_gen.errors import ZooError
from zoo_gen.files import reachable
from zoo_gen.image_data import ImageData, Torchvision, load_image_data, torchvision


def source(dataset: str, **fields: object) -> Torchvision:
    return Torchvision.model_validate({"source": "torchvision", "dataset": dataset} | fields)


@pytest.fixture
def smaller(monkeypatch):
    """Return a function that says how many images the files of a test have."""

    def say(dataset: str, n_train: int, n_test: int) -> None:
        facts = {dataset: dataclasses.replace(torchvision.FACTS[dataset], n_train=n_train, n_test=n_test)}
        monkeypatch.setattr(torchvision, "FACTS", torchvision.FACTS | facts)

    return say


@pytest.fixture
def published_as(monkeypatch):
    """Return a function that makes torchvision take the MD5 of a test's files for the published ones."""

    def say(dataset: str, digests: dict[str, str]) -> None:
        of = getattr(datasets, dataset)
        if dataset == "SVHN":
            parts = {part: [url, file, digests.get(file, md5)] for part, (url, file, md5) in of.split_list.items()}
            monkeypatch.setattr(of, "split_list", parts)
            return
        for name in ("train_list", "test_list"):
            monkeypatch.setattr(of, name, [[file, digests[file]] for file, _ in getattr(of, name)])
        if dataset.startswith("CIFAR"):
            monkeypatch.setattr(of, "meta", of.meta | {"md5": digests[of.meta["filename"]]})

    return say


def assert_same(data: ImageData, train: datasets.VisionDataset, test: datasets.VisionDataset) -> None:
    """Compare with what torchvision's objects give, image for image."""
    for part, expected in (("train", train), ("test", test)):
        images, kinds = data.part(part)
        assert len(images) == len(expected) > 0
        for image, kind, (picture, label) in zip(images, kinds, expected, strict=True):
            pixels = np.asarray(picture)
            np.testing.assert_array_equal(image, pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))
            assert kind == label


@pytest.mark.parametrize("dataset", ["MNIST", "FashionMNIST", "KMNIST"])
def test_mnist_like_files_in_torchvisions_folders(dataset, tmp_path, smaller):
    published.write_idx(tmp_path / dataset / "raw")
    smaller(dataset, 30, 20)
    of = getattr(datasets, dataset)
    assert_same(
        load_image_data(source(dataset), data_root=tmp_path), of(tmp_path, train=True), of(tmp_path, train=False)
    )


def test_emnist_letters_count_from_zero(tmp_path, monkeypatch):
    published.write_idx(tmp_path / "EMNIST" / "raw", first=1, prefix="emnist-letters-")
    letters = dataclasses.replace(torchvision.EMNIST["letters"], n_train=30, n_test=20)
    monkeypatch.setitem(torchvision.EMNIST, "letters", letters)
    data = load_image_data(source("EMNIST", split="letters"), data_root=tmp_path)
    expected = [
        datasets.EMNIST(tmp_path, split="letters", train=train, target_transform=lambda label: label - 1)
        for train in (True, False)
    ]
    assert_same(data, *expected)
    assert data.n_classes == 26


def test_usps(tmp_path, smaller):
    published.write_usps(tmp_path)
    smaller("USPS", 12, 11)
    data = load_image_data(source("USPS"), data_root=tmp_path)
    assert_same(data, datasets.USPS(tmp_path, train=True), datasets.USPS(tmp_path, train=False))
    # Within one level of what was written: the text has six digits.
    written = published.pixels(12, 1, 16, 16, seed=12).astype(int)
    assert np.abs(data.train_images.astype(int) - written).max() <= 1
    assert data.train_labels.tolist() == published.labels(12).tolist()


@pytest.mark.parametrize("folder", ["", "svhn"])
def test_svhn(folder, tmp_path, smaller, published_as):
    published_as("SVHN", published.write_svhn(tmp_path / folder))
    smaller("SVHN", 12, 11)
    data = load_image_data(source("SVHN"), data_root=tmp_path)
    assert_same(data, *(datasets.SVHN(tmp_path / folder, split=split) for split in ("train", "test")))
    np.testing.assert_array_equal(data.train_images, published.pixels(32, 32, 3, 12, seed=12).transpose(3, 2, 0, 1))
    assert data.train_labels.tolist() == published.labels(12).tolist()


def test_cifar10(tmp_path, smaller, published_as):
    published_as("CIFAR10", published.write_cifar10(tmp_path / "cifar-10-batches-py"))
    smaller("CIFAR10", 50, 10)
    data = load_image_data(source("CIFAR10"), data_root=tmp_path)
    assert_same(data, datasets.CIFAR10(tmp_path, train=True), datasets.CIFAR10(tmp_path, train=False))
    batches = np.concatenate([published.pixels(10, 3072, seed=batch) for batch in range(5)])
    np.testing.assert_array_equal(data.train_images.reshape(50, 3072), batches)


def test_cifar100(tmp_path, smaller, published_as):
    published_as("CIFAR100", published.write_cifar100(tmp_path / "cifar-100-python"))
    smaller("CIFAR100", 110, 100)
    data = load_image_data(source("CIFAR100"), data_root=tmp_path)
    assert_same(data, datasets.CIFAR100(tmp_path, train=True), datasets.CIFAR100(tmp_path, train=False))
    assert sorted(set(data.train_labels.tolist())) == list(range(100))


def test_stl10(tmp_path, smaller, published_as):
    published_as("STL10", published.write_stl10(tmp_path / "stl10_binary"))
    smaller("STL10", 12, 11)
    data = load_image_data(source("STL10"), data_root=tmp_path)
    assert_same(data, *(datasets.STL10(tmp_path, split=split) for split in ("train", "test")))
    np.testing.assert_array_equal(data.test_images, published.pixels(11, 3, 96, 96, seed=11).transpose(0, 1, 3, 2))


@pytest.mark.parametrize("folder", ["mnist", "MNIST", "Mnist", "MNIST/raw", "mnist/MNIST/raw"])
@pytest.mark.parametrize("gz", ["", ".gz"])
def test_a_folder_named_like_the_data_set_is_found(folder, gz, tmp_path, smaller):
    published.write_idx(tmp_path / folder, gz=gz)
    smaller("MNIST", 30, 20)
    data = load_image_data(source("MNIST"), data_root=tmp_path)
    np.testing.assert_array_equal(data.train_images[:, 0], published.pixels(30, 28, 28, seed=30))


def test_debians_fashion_mnist_is_found(tmp_path, monkeypatch, smaller):
    published.write_idx(tmp_path / "datasets" / "fashion-mnist", gz=".gz")
    monkeypatch.setattr(torchvision, "SYSTEM", tmp_path / "datasets")
    smaller("FashionMNIST", 30, 20)
    data = load_image_data(source("FashionMNIST"), data_root=tmp_path / "root")
    np.testing.assert_array_equal(data.test_images[:, 0], published.pixels(20, 28, 28, seed=20))


def test_fewer_images_than_published_are_sent_to_idx(tmp_path):
    published.write_idx(tmp_path / "mnist")
    with pytest.raises(ZooError) as caught:
        load_image_data(source("MNIST"), data_root=tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}/mnist: holds 30 training and 20 test images; expected 60000 and 10000;"
        ' for images of your own say source = "idx" with folder = "mnist"'
    )


@pytest.mark.parametrize(
    ("dataset", "name"),
    [("CIFAR10", "cifar-10-batches-py/test_batch"), ("USPS", "usps.bz2"), ("SVHN", "train_32x32.mat")],
)
def test_a_damaged_file_is_refused(dataset, name, tmp_path, smaller, published_as):
    if dataset == "CIFAR10":
        published_as(dataset, published.write_cifar10(tmp_path / "cifar-10-batches-py"))
        smaller(dataset, 50, 10)
    elif dataset == "USPS":
        published.write_usps(tmp_path)
        smaller(dataset, 12, 11)
    else:
        published_as(dataset, published.write_svhn(tmp_path))
        smaller(dataset, 12, 11)
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ZooError, match=rf"{dataset} is damaged or incomplete \(.+\); expected the published files"):
        load_image_data(source(dataset), data_root=tmp_path)


@pytest.fixture
def mirror(tmp_path, monkeypatch, smaller):
    """MNIST's four files, to be served where torchvision will look for them."""
    published.write_idx(tmp_path / "server", gz=".gz")
    digests = published.md5s(tmp_path / "server")
    monkeypatch.setattr(datasets.MNIST, "resources", [(name, digests[name]) for name, _ in datasets.MNIST.resources])
    smaller("MNIST", 30, 20)
    return tmp_path / "server"


def test_what_is_missing_is_downloaded_into_torchvisions_folders(mirror, tmp_path, monkeypatch):
    root = tmp_path / "new" / "root"
    with serve(mirror) as server:
        monkeypatch.setattr(datasets.MNIST, "mirrors", [server.url])
        data = load_image_data(source("MNIST"), data_root=root)
    np.testing.assert_array_equal(data.train_images[:, 0], published.pixels(30, 28, 28, seed=30))
    torch.testing.assert_close(datasets.MNIST(root).data.numpy(), data.train_images[:, 0])
    assert [path.name for path in root.iterdir()] == ["MNIST"]


def test_cifar10_is_downloaded_as_an_archive(tmp_path, monkeypatch, smaller, published_as):
    published_as("CIFAR10", published.write_cifar10(tmp_path / "packed" / "cifar-10-batches-py"))
    smaller("CIFAR10", 50, 10)
    archive = Path(shutil.make_archive(str(tmp_path / "server" / "cifar"), "gztar", tmp_path / "packed"))
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    with serve(tmp_path / "server") as server:
        monkeypatch.setattr(datasets.CIFAR10, "url", f"{server.url}{archive.name}")
        data = load_image_data(source("CIFAR10"), data_root=tmp_path / "root")
    assert_same(data, *(datasets.CIFAR10(tmp_path / "root", train=train) for train in (True, False)))


def test_emnist_is_downloaded_as_an_archive(tmp_path, monkeypatch):
    published.write_idx(tmp_path / "packed" / "gzip", gz=".gz", first=1, prefix="emnist-letters-")
    archive = Path(shutil.make_archive(str(tmp_path / "server" / "gzip"), "zip", tmp_path / "packed"))
    monkeypatch.setattr(datasets.EMNIST, "md5", hashlib.md5(archive.read_bytes()).hexdigest())
    letters = dataclasses.replace(torchvision.EMNIST["letters"], n_train=30, n_test=20)
    monkeypatch.setitem(torchvision.EMNIST, "letters", letters)
    with serve(tmp_path / "server") as server:
        monkeypatch.setattr(datasets.EMNIST, "url", f"{server.url}{archive.name}")
        data = load_image_data(source("EMNIST", split="letters"), data_root=tmp_path / "root")
    np.testing.assert_array_equal(data.test_images[:, 0], published.pixels(20, 28, 28, seed=20))
    assert data.test_labels.tolist() == published.labels(20).tolist()


@pytest.mark.parametrize("fault", ["half", "wrong"])
def test_a_download_that_fails_leaves_nothing(fault, mirror, tmp_path, monkeypatch):
    root = tmp_path / "root"
    name = "t10k-images-idx3-ubyte.gz"
    if fault == "wrong":
        (mirror / name).write_bytes(gzip.compress(published.idx(published.pixels(20, 28, 28, seed=99))))
    with serve(mirror, break_off=name if fault == "half" else "") as server:
        monkeypatch.setattr(datasets.MNIST, "mirrors", [server.url])
        with pytest.raises(ZooError, match="has no MNIST, and it cannot be downloaded"):
            load_image_data(source("MNIST"), data_root=root)
    assert list(root.iterdir()) == []


def test_without_network_the_error_says_what_to_put_where(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.CIFAR10, "url", "http://127.0.0.1:9/cifar.tar.gz")
    with pytest.raises(ZooError) as caught:
        load_image_data(source("CIFAR10"), data_root=tmp_path)
    message = str(caught.value)
    assert message.startswith(
        f"{tmp_path}: has no CIFAR10, and it cannot be downloaded (the download: 127.0.0.1:9 cannot "
    )
    assert message.endswith(
        f"); expected in {tmp_path}/cifar-10-batches-py: data_batch_1, data_batch_2, data_batch_3, data_batch_4,"
        " data_batch_5, test_batch, batches.meta"
    )
    assert "\n" not in message


@pytest.mark.parametrize("dataset", sorted(torchvision.FACTS))
def test_the_servers_that_torchvision_asks_are_tried_first(dataset, tmp_path, monkeypatch):
    tried, asked = set(), set()

    def refuse(request: urllib.request.Request, **_: object) -> None:
        asked.add(request.host)
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(reachable, "require", lambda urls, **_: tried.update(urlsplit(url).netloc for url in urls))
    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    with pytest.raises(ZooError, match="cannot be downloaded"):
        load_image_data(source(dataset, **({"split": "letters"} if dataset == "EMNIST" else {})), data_root=tmp_path)
    assert asked
    assert asked <= tried


def test_a_root_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ZooError, match="has no MNIST, and it cannot be downloaded"):
        load_image_data(source("MNIST"), data_root=tmp_path / "file" / "root")


@pytest.mark.parametrize("fields", [{"dataset": "EMNIST"}, {"dataset": "MNIST", "split": "letters"}])
def test_a_split_belongs_to_emnist(fields):
    with pytest.raises(ValueError, match="a split belongs to EMNIST, which needs one of byclass, bymerge"):
        source(**fields)


def test_the_classes_are_torchvisions():
    for split, facts in torchvision.EMNIST.items():
        classes = datasets.EMNIST.classes_split_dict[split]
        assert facts.n_classes == len([name for name in classes if name != "N/A"])
    for dataset in ("MNIST", "FashionMNIST", "KMNIST"):
        assert torchvision.FACTS[dataset].n_classes == len(getattr(datasets, dataset).classes)


def test_the_sizes_of_the_zoos_of_2022():
    # Schürholt et al. 2022, code: images for training, validation and test.
    sizes = {
        "SVHN": (60_000, 13_257, 26_032),
        "USPS": (6_000, 1_291, 2_007),
        "CIFAR10": (42_000, 8_000, 10_000),
        "STL10": (4_200, 800, 8_000),
        "MNIST": (50_000, 10_000, 10_000),
    }
    for dataset, (train, validation, test) in sizes.items():
        actual = source(dataset, validation_size=validation)
        assert (actual.n_train, actual.n_validation, actual.n_test) == (train, validation, test)


def test_real_fashion_mnist(data_root: Path):
    data = load_image_data(source("FashionMNIST"), data_root=data_root)
    assert np.bincount(data.train_labels).tolist() == [6_000] * 10
    assert np.bincount(data.test_labels).tolist() == [1_000] * 10
    # The mean and deviation that everybody normalises Fashion-MNIST with.
    assert abs(data.train_images.mean() / 255 - 0.2860) < 5e-5
    assert abs(data.train_images.std() / 255 - 0.3530) < 5e-5
