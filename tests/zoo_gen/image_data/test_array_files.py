"""Arrays from files and from Python are read as they are, or refused with their name and place."""

import numpy as np
import pytest
import torch

from zoo_gen.errors import ZooError
from zoo_gen.files.schema import Schema
from zoo_gen.image_data import Arrays, DataSource, load_image_data
from zoo_gen.image_data.array_files import keep

RANDOM = np.random.RandomState(0)
BYTES = RANDOM.randint(0, 256, (20, 6, 5)).astype(np.uint8)
NUMBERS = RANDOM.standard_normal((20, 7))
LABELS = np.arange(20) % 3
FRACTIONS = RANDOM.standard_normal(20)


class Manifest(Schema):
    data: DataSource


@pytest.fixture
def source_of(tmp_path):
    """Return the source of arrays that are given in Python."""

    def source(arrays, **keys) -> Arrays:
        path = keep(arrays, tmp_path)
        data = {"source": "arrays", "path": path, **keys}
        return Manifest.model_validate({"data": data}, context={"data_root": tmp_path}).data

    return source


def load(source: Arrays, root):
    return load_image_data(source, data_root=root)


def rows(images: np.ndarray, labels: np.ndarray) -> set[tuple[bytes, object]]:
    return {(image.tobytes(), label) for image, label in zip(images, labels.tolist(), strict=True)}


def test_bytes_are_grey_images_with_labels(source_of, tmp_path):
    source = source_of((BYTES, LABELS, BYTES[:5], LABELS[:5]), normalize="symmetric")
    assert (source.task, source.kind, source.input_shape) == ("classification", "bytes", (1, 6, 5))
    assert (source.classes, source.n_train, source.n_test) == (("0", "1", "2"), 20, 5)
    data = load(source, tmp_path)
    assert rows(*data.part("train")) == rows(BYTES[:, None], LABELS)
    assert (data.test_images == BYTES[:5, None]).all()  # in their order
    assert (data.test_labels == LABELS[:5]).all()
    inputs, _ = data.tensors("test")
    assert inputs.min() >= -1
    torch.testing.assert_close(inputs[0, 0], torch.from_numpy(BYTES[0] / 127.5 - 1).float())


def test_numbers_are_read_as_they_are(source_of, tmp_path):
    data = load(source_of((NUMBERS, LABELS, NUMBERS[:5], LABELS[:5])), tmp_path)
    inputs, _ = data.tensors("test")
    assert (inputs.numpy() == NUMBERS[:5].astype(np.float32)).all()
    inputs.zero_()
    assert data.test_images.any()  # a tensor is a copy


def test_fractions_are_numbers_to_predict(source_of, tmp_path):
    source = source_of((NUMBERS, FRACTIONS[:, None], NUMBERS[:5], FRACTIONS[:5]))
    assert (source.task, source.classes, source.n_outputs) == ("regression", None, 1)
    assert [name for name, _ in source.metrics if name.startswith("test")] == [
        "test_loss",
        "test_mse",
        "test_mae",
        "test_r2",
    ]
    data = load(source, tmp_path)
    assert (data.test_labels == FRACTIONS[:5]).all()
    assert data.n_classes is None


def test_the_task_of_whole_numbers_can_be_said(source_of, tmp_path):
    source = source_of((NUMBERS, LABELS, NUMBERS[:5], LABELS[:5]), task="regression")
    assert load(source, tmp_path).test_labels.tolist() == [0.0, 1.0, 2.0, 0.0, 1.0]


def test_labels_of_text_and_gaps_become_classes_in_their_order(source_of, tmp_path):
    names = np.array(["pear", "apple", "fig"])[LABELS]
    source = source_of((NUMBERS, names, NUMBERS[:5], names[:5]))
    assert source.classes == ("apple", "fig", "pear")
    assert load(source, tmp_path).test_labels.tolist() == [2, 0, 1, 2, 0]
    assert source_of((NUMBERS, LABELS * 10, NUMBERS[:5], LABELS[:5] * 10)).classes == ("0", "10", "20")


def test_tensors_lists_and_pandas_text_are_arrays_too(source_of, tmp_path):
    arrays = (torch.from_numpy(NUMBERS), LABELS.tolist(), NUMBERS[:5].tolist(), torch.from_numpy(LABELS[:5]))
    plain = load(source_of((NUMBERS, LABELS, NUMBERS[:5], LABELS[:5])), tmp_path)
    assert load(source_of(arrays), tmp_path).sha256() == plain.sha256()
    names = np.array(["a", "b", "c"], dtype=object)[LABELS]
    assert source_of((NUMBERS, names, NUMBERS[:5], names[:5])).classes == ("a", "b", "c")


def test_files_hold_the_same_as_what_is_given(source_of, tmp_path):
    arrays = {"x_train": BYTES, "y_train": LABELS, "x_test": BYTES[:5], "y_test": LABELS[:5]}
    np.savez_compressed(tmp_path / "own.npz", **arrays)
    (tmp_path / "own").mkdir()
    for name, values in arrays.items():
        np.save(tmp_path / "own" / f"{name}.npy", values)
    expected = load(source_of(arrays), tmp_path).sha256()
    for path in (tmp_path / "own.npz", tmp_path / "own"):
        source = Manifest.model_validate({"data": {"source": "arrays", "path": str(path)}}).data
        assert load(source, tmp_path).sha256() == expected


def test_a_share_is_drawn_by_the_seed(source_of, tmp_path):
    data = load(source_of((NUMBERS, FRACTIONS), test_share=0.25, seed=1), tmp_path)
    train, test = rows(*data.part("train")), rows(*data.part("test"))
    assert (len(train), len(test)) == (15, 5)
    assert train | test == rows(NUMBERS.astype(np.float32), FRACTIONS)


def test_channels_that_are_last_are_moved(source_of, tmp_path):
    colour = RANDOM.randint(0, 256, (20, 6, 5, 3)).astype(np.uint8)
    arrays = (colour, LABELS, colour[:5], LABELS[:5])
    with pytest.raises(ZooError, match=r"images of \[6, 5, 3\] seem to have their channels last"):
        source_of(arrays)
    data = load(source_of(arrays, channels_last=True), tmp_path)
    assert (data.test_images == colour[:5].transpose(0, 3, 1, 2)).all()


@pytest.mark.parametrize(
    ("arrays", "keys", "message"),
    [
        ((NUMBERS,), {}, "has 1 arrays; expected x_train, y_train, x_test, y_test, or x and y"),
        ((NUMBERS, LABELS), {}, r"holds x, y; expected x_train, .* test_share"),
        ((NUMBERS, LABELS[:9], NUMBERS, LABELS), {}, r"x_train has shape \[20, 7\] and y_train \[9\]"),
        ((NUMBERS, NUMBERS, NUMBERS, NUMBERS), {}, r"y_train \[20, 7\]; expected .* a label or number an example"),
        ((NUMBERS, np.zeros(20, int), NUMBERS, LABELS), {}, "y_train: holds the one class 0; expected two or more"),
        ((NUMBERS, [object()] * 20), {"test_share": 0.5}, "data: y holds object; expected numbers or text"),
        (
            (NUMBERS, np.array(["a", "b"] * 10)),
            {"test_share": 0.5, "task": "regression"},
            "y_train: holds text such as '[ab]'",
        ),
    ],
)
def test_arrays_that_do_not_fit_are_refused(source_of, arrays, keys, message):
    with pytest.raises(ZooError, match=message):
        source_of(arrays, **keys)


def test_what_is_no_number_is_refused_by_its_place(source_of, tmp_path):
    holes = NUMBERS.copy()
    holes[3, 4] = np.nan
    with pytest.raises(ZooError, match=r"inputs\[\d+, 4\] is nan; expected finite numbers"):
        source_of((holes, LABELS, NUMBERS, LABELS))
    targets = FRACTIONS.copy()
    targets[2] = np.inf
    with pytest.raises(ZooError, match=r"y_test\[2\]: is inf; expected a finite number"):
        load(source_of((NUMBERS, FRACTIONS, NUMBERS, targets)), tmp_path)


def test_a_class_that_training_lacks_is_refused(source_of, tmp_path):
    source = source_of((NUMBERS, LABELS, NUMBERS[:3], np.array([0, 7, 1])))
    with pytest.raises(ZooError, match=r"y_test\[1\]: is '7'; expected one of the classes 0, 1, 2"):
        load(source, tmp_path)


def test_numbers_that_are_all_equal_leave_nothing_to_explain(source_of, tmp_path):
    source = source_of((NUMBERS, FRACTIONS, NUMBERS[:3], np.ones(3)))
    with pytest.raises(ZooError, match="the numbers to predict are all 1 in the test part"):
        load(source, tmp_path)


def test_pickles_are_never_run(tmp_path):
    np.savez(tmp_path / "own.npz", x=np.array([{"a": 1}], dtype=object), y=LABELS)
    with pytest.raises(ZooError, match=r"own.npz: cannot be read as .npz or .npy files"):
        Manifest.model_validate({"data": {"source": "arrays", "path": str(tmp_path / "own.npz"), "test_share": 0.5}})


@pytest.mark.parametrize(
    ("names", "keys", "message"),
    [
        (
            ("images", "labels"),
            {"test_share": 0.5},
            "holds images, labels; expected x_train, y_train, x_test, y_test, or",
        ),
        (("x_train", "y_train", "x_test", "y_test"), {"test_share": 0.5}, "expected no test_share in"),
        (("x_train", "y_train"), {}, "holds x_train, y_train; expected x_train, y_train, x_test"),
    ],
)
def test_other_arrays_are_named_as_they_are(tmp_path, names, keys, message):
    values = (NUMBERS, LABELS) * 2
    path = tmp_path / "own.npz"
    np.savez(path, **dict(zip(names, values, strict=False)))
    with pytest.raises(ZooError, match=message):
        Manifest.model_validate({"data": {"source": "arrays", "path": str(path), **keys}})


def test_a_single_npy_file_is_refused_for_what_it_is(tmp_path):
    np.save(tmp_path / "own.npy", NUMBERS)
    with pytest.raises(ZooError, match=r"own.npy: .*; expected a .npz file or a folder of .npy files"):
        Manifest.model_validate({"data": {"source": "arrays", "path": str(tmp_path / "own.npy"), "test_share": 0.5}})


@pytest.mark.filterwarnings("error")
def test_what_float32_cannot_hold_is_shown_as_it_stands(source_of):
    with pytest.raises(ZooError, match=r"inputs\[\d+, 0\] is 1e\+300; expected finite numbers that float32 can hold"):
        source_of((np.full((20, 7), 1e300), LABELS), test_share=0.2)
