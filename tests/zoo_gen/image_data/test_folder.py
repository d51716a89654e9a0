"""Class folders of PNG and JPEG files, in folders and archives, are read as Pillow reads each file, or refused."""

import re
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zoo_gen.errors import ZooError
from zoo_gen.files.schema import Schema, checked
from zoo_gen.image_data import DataSource, Folder, ImageData, load_image_data


class Manifest(Schema):
    data: DataSource


def source(path: Path, **keys: object) -> Folder:
    actual = Manifest.model_validate({"data": {"source": "folder", "path": str(path), **keys}}).data
    assert isinstance(actual, Folder)
    return actual


def draw(path: Path, *, seed: int, mode: str = "RGB", size: tuple[int, int] = (5, 4)) -> None:
    """Write a random image of a size (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = {"L": (), "RGB": (3,), "RGBA": (4,)}[mode]
    pixels = np.random.RandomState(seed).randint(0, 256, (size[1], size[0], *channels)).astype(np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three cats and four dogs for training, one and two for tests; as PNG and JPEG."""
    root = tmp_path / "photos"
    for part, cats, dogs in (("train", 3, 4), ("test", 1, 2)):
        for number in range(cats):
            draw(root / part / "cat" / f"{number}.png", seed=number + 10 * cats)
        for number in range(dogs):
            draw(root / part / "dog" / f"{number}.JPEG", seed=number + 100 * dogs)
    (root / "README.txt").write_text("beside the folders")
    (root / "train" / "cat" / ".DS_Store").write_text("hidden")
    return root


def reference(root: Path, part: str) -> set[tuple[bytes, int]]:
    """Return the pixels and label of every image of a part, read one by one."""
    actual = set()
    for label, name in enumerate(("cat", "dog")):
        for path in (root / part / name).glob("[0-9]*"):
            with Image.open(path) as image:
                actual.add((np.asarray(image).transpose(2, 0, 1).tobytes(), label))
    return actual


def as_set(images: np.ndarray, labels: np.ndarray) -> set[tuple[bytes, int]]:
    return {(image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True)}


def assert_same(one: ImageData, other: ImageData) -> None:
    assert one.sha256() == other.sha256()


def test_a_folder_is_read_as_pillow_reads_each_file(photos):
    described = source(photos)
    assert (described.classes, described.mode, described.size) == (("cat", "dog"), "RGB", (4, 5))
    assert (described.input_shape, described.n_train, described.n_test) == ((3, 4, 5), 7, 3)
    data = load_image_data(described)
    assert as_set(*data.part("train")) == reference(photos, "train")
    assert as_set(*data.part("test")) == reference(photos, "test")


def test_training_images_are_not_in_the_order_of_classes(photos):
    orders = {tuple(load_image_data(source(photos, seed=seed)).train_labels) for seed in range(6)}
    assert (0, 0, 0, 1, 1, 1, 1) not in orders
    assert len(orders) > 1


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "tar.xz"])
@pytest.mark.parametrize("above", ["", "some/folder/"])
def test_an_archive_holds_the_same_data_as_its_folder(photos, tmp_path, kind, above):
    path = tmp_path / f"photos.{kind}"
    files = sorted(file for file in photos.rglob("*") if file.is_file())
    names = [f"{above}{file.relative_to(photos).as_posix()}" for file in files]
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for file, name in zip(files, names, strict=True):
                archive.write(file, name)
    else:
        with tarfile.open(path, f"w:{kind.partition('.')[2]}") as tar:
            for file, name in reversed(list(zip(files, names, strict=True))):  # its order must not matter
                tar.add(file, f"./{name}")
    assert_same(load_image_data(source(path)), load_image_data(source(photos)))


def test_a_share_is_drawn_by_the_seed_where_there_is_no_test_folder(photos):
    described = source(photos / "train", test_share=0.3, seed=3)
    data = load_image_data(described)
    assert (described.n_train, described.n_test) == (5, 2)
    assert not as_set(*data.part("train")) & as_set(*data.part("test"))
    together = as_set(*data.part("train")) | as_set(*data.part("test"))
    assert together == reference(photos, "train")
    assert load_image_data(source(photos / "train", test_share=0.3, seed=4)).sha256() != data.sha256()


def test_validation_images_are_cut_from_the_training_images(photos):
    data = load_image_data(source(photos, validation_size=2))
    parts = [as_set(*data.part(part)) for part in ("train", "validation")]
    assert [len(part) for part in parts] == [5, 2]
    assert parts[0] | parts[1] == reference(photos, "train")


def test_what_is_asked_for_makes_images_alike(photos):
    draw(photos / "train" / "cat" / "9.png", seed=1, mode="RGBA", size=(9, 9))
    draw(photos / "train" / "dog" / "9.png", seed=2, mode="L")
    data = load_image_data(source(photos, size=[6, 3], mode="L"))
    with Image.open(photos / "train" / "cat" / "9.png") as image:
        expected = np.asarray(image.convert("L").resize((3, 6), Image.Resampling.BILINEAR))
    assert expected.tobytes() in {image.tobytes() for image in data.train_images}


def test_images_of_different_sizes_may_be_resized_and_cropped(photos):
    draw(photos / "train" / "cat" / "9.png", seed=1, size=(9, 12))
    described = source(photos, resize=4, center_crop=3)
    assert (described.size, described.input_shape) == (None, (3, 3, 3))
    assert load_image_data(described).train_images.shape == (8, 3, 3, 3)


def test_the_manifest_that_was_completed_says_everything(photos):
    complete = source(photos).model_dump(mode="json", exclude_none=True)
    (photos / "train").rename(photos / "elsewhere")
    assert Manifest.model_validate({"data": complete}).data == Manifest.model_validate({"data": complete}).data


def break_size(root: Path) -> None:
    draw(root / "train" / "dog" / "9.png", seed=0, size=(7, 7))


def break_mode(root: Path) -> None:
    draw(root / "train" / "dog" / "9.png", seed=0, mode="L")


def break_classes(root: Path) -> None:
    draw(root / "test" / "horse" / "0.png", seed=0)


def break_empty(root: Path) -> None:
    (root / "train" / "horse").mkdir()


def break_other(root: Path) -> None:
    (root / "train" / "dog" / "9.webp").write_bytes(b"RIFF")


def break_place(root: Path) -> None:
    draw(root / "train" / "9.png", seed=0)


def break_test(root: Path) -> None:
    (root / "test").rename(root / "val")


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (
            break_size,
            r"t/cat/0.png has \[4, 5\] pixels and train/dog/9.png has \[7, 7\]; .*size = \[height, width\]",
        ),
        (break_mode, r"test/cat/0.png has mode RGB and train/dog/9.png has L; .*mode = "),
        (break_classes, r"has class folder test/horse and no train/horse; expected both"),
        (break_empty, r"class folder train/horse holds no image"),
        (break_other, r"train/dog/9.webp: expected only images there, ending in .png"),
        (break_place, r"train/9.png: lies in no class folder; expected CLASS/IMAGE"),
        (break_test, r"has images in train and none in test; expected both, or test_folder"),
    ],
)
def test_a_folder_that_does_not_fit_is_refused_with_its_place(photos, harm, message):
    harm(photos)
    with pytest.raises(ZooError, match=f"^{re.escape(str(photos))}.*{message}") as refusal:
        source(photos)
    assert "\n" not in str(refusal.value)


def test_a_truncated_image_is_refused_by_its_name(photos):
    path = photos / "train" / "cat" / "1.png"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ZooError, match=re.escape(f"{path}: is a damaged image")):
        load_image_data(source(photos))


def test_sixteen_bits_are_refused_and_not_cut_off(photos):
    deep = np.full((4, 5), 60_000, dtype=np.uint16)
    Image.fromarray(deep).save(photos / "train" / "cat" / "1.png")
    with pytest.raises(ZooError, match=r"cat/1.png: has more than 8 bits a channel"):
        load_image_data(source(photos, size=[4, 5], mode="L"))


def test_classes_that_changed_are_refused(photos):
    described = source(photos)
    for part in ("train", "test"):
        (photos / part / "dog").rename(photos / part / "wolf")
    with pytest.raises(ZooError, match="has the classes cat, wolf; expected cat, dog"):
        load_image_data(described)


def test_a_damaged_archive_is_one_line(photos, tmp_path):
    path = tmp_path / "photos.tar.xz"
    with tarfile.open(path, "w:xz") as tar:
        tar.add(photos, "photos")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ZooError, match=r"photos.tar.xz: "):
        load_image_data(source(path))


def test_a_path_is_looked_for_in_the_working_folder_and_below_the_root(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    here = load_image_data(source(Path("photos")))
    monkeypatch.chdir("/")
    monkeypatch.setenv("ZOO_DATA_ROOT", str(tmp_path))
    assert_same(here, load_image_data(source(Path("photos"))))
    with pytest.raises(ZooError, match=r"data.path 'pictures': is not there; expected /pictures or "):
        source(Path("pictures"))


@pytest.mark.slow
def test_the_photographs_of_cifar10_are_read_from_their_tar(data_root):
    path = data_root / "cifar10-jpeg.tar.xz"
    if not path.exists():
        pytest.skip("cifar10-jpeg.tar.xz is not there")
    described = source(path, train_size=2000, test_size=1000)
    assert (described.input_shape, described.n_classes) == ((3, 32, 32), 10)
    data = load_image_data(described)
    with tarfile.open(path) as tar:
        name = next(member for member in tar if member.name.endswith(".jpg"))
        with Image.open(tar.extractfile(name)) as image:
            one = np.asarray(image).transpose(2, 0, 1)
    everything = load_image_data(source(path))
    assert one.tobytes() in {image.tobytes() for image in (*everything.train_images, *everything.test_images)}
    assert np.bincount(everything.train_labels).tolist() == [5000] * 10
    assert {len(np.unique(data.train_labels)), len(np.unique(data.test_labels))} == {10}


def test_sixteen_bits_in_colour_are_refused_too(photos):
    """Pillow opens such a PNG as one of 8 bits; this one is written chunk by chunk."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)

    rows = b"".join(b"\0" + bytes(5 * 3 * 2) for _ in range(4))
    header = struct.pack(">IIBBBBB", 5, 4, 16, 2, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (photos / "train" / "cat" / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    with pytest.raises(ZooError, match=r"cat/1.png: has more than 8 bits a channel"):
        load_image_data(source(photos, size=[4, 5], mode="RGB"))


def test_another_format_is_named_without_an_address_in_memory(photos):
    (photos / "train" / "cat" / "1.png").write_bytes(b"GIF89a")
    with pytest.raises(ZooError, match=r"cat/1.png: is no PNG or JPEG; expected an image of one of these formats$"):
        load_image_data(source(photos))


def test_linked_class_folders_are_followed(photos, tmp_path):
    linked = tmp_path / "linked"
    for part in ("train", "test"):
        (linked / part).mkdir(parents=True)
        for label in ("cat", "dog"):
            (linked / part / label).symlink_to(photos / part / label)
    data = load_image_data(source(linked))
    for part in ("train", "test"):
        assert as_set(*data.part(part)) == reference(photos, part)


def test_a_link_to_nowhere_or_in_a_circle_is_refused_by_its_name(photos):
    lost = photos / "train" / "cat" / "lost.png"
    lost.symlink_to("nowhere.png")
    with pytest.raises(ZooError, match=r"cat/lost.png"):
        load_image_data(source(photos))
    lost.unlink()
    (photos / "train" / "cat" / "again").symlink_to(photos)
    with pytest.raises(ZooError, match=r"cat/again: is a link to a folder that holds it"):
        source(photos)


def test_a_wrong_value_is_named_before_the_keys_that_are_looked_up_by_it(photos):
    with pytest.raises(ZooError, match="test_share: input should be less than 1, got 2"):
        checked({"data": {"source": "folder", "path": str(photos), "test_share": 2}}, Manifest, where="own.toml")
