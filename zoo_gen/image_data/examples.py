"""What arrays and tables of one's own have in common: their task, which rows train and test, and labels as numbers.

Training examples are shuffled once, by the seed of the manifest, because files often hold one class after the other;
test examples keep their order unless they are drawn from the same rows.
"""

import math
from collections.abc import Callable
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, Strict, model_validator

from zoo_gen.errors import ZooError
from zoo_gen.files.schema import Count, DataSeed, Schema
from zoo_gen.image_data.arrays import ImageData
from zoo_gen.image_data.own_files import Share
from zoo_gen.image_data.source import OF_IMAGES, Metrics, metrics_of_classes, metrics_of_numbers
from zoo_gen.image_data.steps import chosen

TaskName = Literal["classification", "regression"]


class Examples(Schema):
    """Examples with labels, or with numbers to predict.

    Args:
        task: "classification" or "regression"; looked up where it is plain.
        classes: names of the classes, sorted, of which a label is one; looked up.
        test_share: which share of the rows is for tests, where the files do not divide them; drawn by `seed`.
        train_size: training examples; all that are not for validation or tests if not given.
        validation_size: examples that are cut from the training examples.
        test_size: test examples; all if not given.
        seed: of the shuffling and the choice.
    """

    examples: ClassVar[str] = "training examples"
    columns: ClassVar[tuple[str, ...]] = ()  # of the table of models, which the data tells and no manifest
    fitted_images: ClassVar[tuple[int, ...]] = ()  # how many of each part, one a model; of other tasks none
    task: TaskName
    classes: tuple[str, ...] | None = None
    test_share: Share | None = None
    train_size: Count
    validation_size: Annotated[int, Strict(), Field(ge=0)] = 0
    test_size: Count
    seed: DataSeed = 0

    @model_validator(mode="after")
    def _classes_of_a_classification(self) -> Self:
        if (self.classes is None) != (self.task == "regression"):
            raise ValueError(
                f"classes: expected {'none' if self.classes else 'their names'}, as the task is {self.task}"
            )
        if self.classes is not None and len(self.classes) < 2:
            raise ValueError(f"classes: has {len(self.classes)}; expected two or more")
        return self

    @property
    def hyperparameters(self) -> tuple[str, ...]:
        """The hyper-parameters that its models have: labels alone can be noisy."""
        return OF_IMAGES if self.classes else OF_IMAGES[:1]

    @property
    def n_classes(self) -> int:
        """The number of classes; 1 where a number is predicted."""
        return len(self.classes or ("",))

    @property
    def n_outputs(self) -> int:
        """The outputs of a network: one a class, or the number."""
        return self.n_classes

    @property
    def n_train(self) -> int:
        """The number of training examples."""
        return self.train_size

    @property
    def n_validation(self) -> int:
        """The number of validation examples."""
        return self.validation_size

    @property
    def n_test(self) -> int:
        """The number of test examples."""
        return self.test_size

    @property
    def metrics(self) -> Metrics:
        """What is measured, by task."""
        if self.classes:
            return metrics_of_classes(self.n_classes, validation=self.validation_size > 0)
        return metrics_of_numbers(validation=self.validation_size > 0)


def shuffled(count: int, seed: int) -> np.ndarray:
    """Return the numbers below `count` in an order that follows from the seed."""
    return np.random.RandomState(seed).permutation(count)


def split_off(count: int, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return which of so many rows are for training, shuffled, and which share of them is for tests, in their order."""
    order = shuffled(count, seed)
    n_test = min(max(1, round(share * count)), count - 1)
    return order[n_test:], np.sort(order[:n_test])


def task_of(labels: np.ndarray, task: TaskName | None, *, whole_is: TaskName | None, where: str) -> TaskName:
    """Return the task that labels (example,) stand for: text is of classes, fractions are numbers to predict.

    Args:
        labels: of any kind.
        task: what the manifest says.
        whole_is: what whole numbers stand for; None where the manifest has to say it.
        where: names their place in errors.

    Raises:
        ZooError: the manifest has to say the task, or says one that the labels do not allow.
    """
    if labels.dtype.kind in "US":
        if task == "regression":
            raise ZooError(
                f"{where}: holds text such as {str(labels[0])!r}; expected numbers, as the task is regression"
            )
        return "classification"
    if task is not None:
        return task
    if labels.dtype.kind == "f":
        return "regression"
    if whole_is is None and labels.dtype.kind in "iu":
        raise ZooError(f'{where}: holds whole numbers; expected task = "classification" or "regression" in [data]')
    return whole_is or "classification"


def classes_of(labels: np.ndarray, *, where: str) -> tuple[str, ...]:
    """Return the names of the classes of labels (example,) in their order: that of text, or of numbers.

    Raises:
        ZooError: there are fewer than two.
    """
    names = tuple(name_of(value) for value in np.unique(labels))
    if len(names) < 2:
        raise ZooError(f"{where}: holds the one class {', '.join(names)}; expected two or more")
    return names


def name_of(label: object) -> str:
    """Return the name of a class: its text, or its number without a needless fraction."""
    if isinstance(label, np.floating) and float(label).is_integer():
        return str(int(label))
    return str(label)


def targets(labels: np.ndarray, classes: tuple[str, ...] | None, *, place: Callable[[int], str]) -> np.ndarray:
    """Return labels (example,) as numbers of classes, int64, or as numbers to predict, float64.

    Args:
        labels: of any kind.
        classes: their names; None of numbers to predict.
        place: names the place of an example in errors.

    Raises:
        ZooError: a label is none of the classes, or a number is not finite.
    """
    if classes is None:
        numbers = labels.astype(np.float64)
        for row in np.flatnonzero(~np.isfinite(numbers)).tolist():
            raise ZooError(f"{place(row)}: is {numbers[row]}; expected a finite number")
        return numbers
    values, of_row = np.unique(labels, return_inverse=True)
    number_of = {name: number for number, name in enumerate(classes)}
    names = [name_of(value) for value in values]
    for number, name in enumerate(names):
        if name not in number_of:
            first = int(np.flatnonzero(of_row == number)[0])
            raise ZooError(f"{place(first)}: is {name!r}; expected one of the classes {', '.join(classes)}")
    return np.array([number_of[name] for name in names], dtype=np.int64)[of_row]


def assemble(
    source: Examples,
    inputs: tuple[np.ndarray, np.ndarray],
    labels: tuple[np.ndarray, np.ndarray],
    *,
    scale: np.ndarray,
    offset: np.ndarray,
    where: str,
) -> ImageData:
    """Choose the examples of each part and put them together.

    Args:
        source: the description.
        inputs: for training and validation, and for tests, each (example, ...).
        labels: the same, each (example,).
        scale: (channel,).
        offset: (channel,).
        where: names the source's place in errors.

    Raises:
        ZooError: there are fewer than wanted, or the numbers to predict of a part are all equal, which leaves R2
            undefined.
    """
    train, validation, test = chosen(source, n_train=len(labels[0]), n_test=len(labels[1]), where=where)
    parts = []
    for name, side, rows in (("training", 0, train), ("validation", 0, validation), ("test", 1, test)):
        numbers = labels[side][rows]
        if source.classes is None and len(rows) and not numbers.max() > numbers.min():
            raise ZooError(
                f"{where}: the numbers to predict are all {numbers[0]:g} in the {name} part; expected others too"
            )
        parts.append((np.ascontiguousarray(inputs[side][rows]), numbers))
    n_classes = len(source.classes) if source.classes else None
    return ImageData.of(parts, n_classes=n_classes, scale=scale, offset=offset)


def stand_in(source: Examples, inputs: np.ndarray) -> ImageData:
    """Return random labels for random inputs (example, ...), as a source's own would be."""
    random = np.random.RandomState(1)
    count = len(inputs)
    drawn = random.randint(0, source.n_classes, count) if source.classes else random.standard_normal(count)
    labels = drawn.astype(np.int64 if source.classes else np.float64)
    scale = np.full(inputs.shape[1], 1 / 255 if inputs.dtype == np.uint8 else 1.0)
    n_classes = len(source.classes) if source.classes else None
    return ImageData(inputs, labels, inputs[:0], labels[:0], inputs, labels, n_classes, scale, 0 * scale)


def mean_and_deviation(values: np.ndarray) -> tuple[float, float]:
    """Return the mean and the deviation of numbers (example,), exactly rounded, so that all machines find the same."""
    mean = math.fsum(values.tolist()) / len(values)
    return mean, math.sqrt(math.fsum(((values - mean) ** 2).tolist()) / len(values))
