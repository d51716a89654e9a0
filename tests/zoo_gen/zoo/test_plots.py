from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from matplotlib import pyplot
from matplotlib.axes import Axes

from zoo_gen.errors import ZooError
from zoo_gen.zoo import Zoo, open_zoo, plots


def test_the_pictures_of_a_zoo_are_written_and_not_empty(tiny_zoo, tmp_path):
    written = plots.write_plots(open_zoo(tiny_zoo), tmp_path / "pictures")
    assert [path.name for path in written] == ["epochs.png", "gap.png", "axes.png"]
    for path in written:
        assert pyplot.imread(path)[..., :3].std() > 0.05


@pytest.mark.parametrize("name", ["picture", "picture.csv"])
def test_a_name_of_no_image_is_one_line(tmp_path, name):
    with pytest.raises(ZooError, match=rf"{name}: is no name of an image; expected one that ends in \.png"):
        plots.save_figure(pyplot.figure(), tmp_path / name)
    assert not any(tmp_path.iterdir())


@pytest.fixture
def boxes(monkeypatch):
    """The groups of values and their labels that are drawn as boxes, in order."""
    drawn = []
    draw = Axes.boxplot

    def record(axes, groups, *, tick_labels, **options):
        drawn.append((tick_labels, [group.tolist() for group in groups]))
        return draw(axes, groups, tick_labels=tick_labels, **options)

    monkeypatch.setattr(Axes, "boxplot", record)
    return drawn


def test_the_histogram_of_a_zoo_has_the_same_bytes_every_time_and_others_where_models_differ(
    tiny_zoo, tmp_path, monkeypatch
):
    """Pushing a zoo again finds it unchanged, picture included."""
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    outcome = open_zoo(tiny_zoo).outcome()
    for path in paths[:2]:
        plots.write_histogram(open_zoo(tiny_zoo), path)
    monkeypatch.setattr(Zoo, "outcome", lambda zoo: replace(outcome, values=outcome.values[:7]))
    plots.write_histogram(open_zoo(tiny_zoo), paths[2])
    first, again, other = (path.read_bytes() for path in paths)
    assert first.startswith(b"\x89PNG")
    assert first == again != other


def test_few_values_are_boxes_of_their_own_and_many_are_ranges(tiny_zoo, tmp_path, boxes, monkeypatch):
    zoo = open_zoo(tiny_zoo)
    table = zoo.models
    rates = 10 ** np.random.default_rng(0).uniform(-4, -1, len(table))
    reached = table["test_accuracy"].to_numpy().copy()
    reached[[3, 30]] = np.nan  # as of models that diverged
    for name, values in (("learning_rate", rates), ("test_accuracy", reached)):
        table = table.set_column(table.column_names.index(name), name, pa.array(values))
    monkeypatch.setattr(Zoo, "models", property(lambda _: table))
    plots.write_plots(zoo, tmp_path)
    finite = np.isfinite(reached)
    drawn = dict(zip([name for name in zoo.varying if name != "seed"], boxes, strict=True))
    optimizers = np.array(table["optimizer"].to_pylist())
    labels = sorted(set(optimizers))
    groups = [reached[finite & (optimizers == label)].tolist() for label in labels]
    assert drawn["optimizer"] == (
        [f"{label}\nn = {len(group)}" for label, group in zip(labels, groups, strict=True)],
        groups,
    )
    _, groups = drawn["learning_rate"]
    sizes = [len(group) for group in groups]
    assert sum(sizes) == finite.sum() == 38
    assert len(sizes) == 6
    assert max(sizes) - min(sizes) <= 1
    # One range after the other: where each begins among the sorted rates, its values end those of the one before.
    by_rate = reached[finite][np.argsort(rates[finite])]
    for group, values in zip(groups, np.split(by_rate, np.cumsum(sizes)[:-1]), strict=True):
        assert sorted(group) == sorted(values)


def test_the_legend_says_how_many_models_there_are_with_a_swatch_for_each_band(tiny_zoo, tmp_path, monkeypatch):
    legends = []
    monkeypatch.setattr(Axes, "legend", lambda axes, **options: legends.append(axes.get_legend_handles_labels()))
    plots.write_plots(open_zoo(tiny_zoo), tmp_path)
    (handles, labels), _ = legends
    assert labels == ["90% of the models", "50% of the models", "median (n = 40 models)"]
    colours = {tuple(handle.get_facecolor()[0]) for handle in handles[:2]}
    assert len(colours) == 2
