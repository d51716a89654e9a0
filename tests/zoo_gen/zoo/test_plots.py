import itertools

import numpy as np
from matplotlib import pyplot

from zoo_gen.zoo import open_zoo, plots


def test_the_pictures_of_a_zoo_are_written_and_not_empty(tiny_zoo, tmp_path):
    written = plots.write(open_zoo(tiny_zoo), tmp_path / "pictures")
    assert [path.name for path in written] == ["epochs.png", "gap.png", "axes.png"]
    for path in written:
        assert pyplot.imread(path)[..., :3].std() > 0.05


def test_few_values_are_groups_of_their_own_and_many_are_ranges():
    values = np.array([0.1, 0.2, 0.3, np.nan])
    labels, groups = plots._groups(["b", "a", "b", "a"], values)
    assert labels == ["a", "b"]
    assert [group.tolist() for group in groups] == [[0.2], [0.1, 0.3]]
    random = np.random.RandomState(0)
    rates = 10 ** random.uniform(-4, -1, size=600)
    labels, groups = plots._groups(rates.tolist(), rates)
    assert [len(group) for group in groups] == [100] * 6
    assert all(before.max() <= after.min() for before, after in itertools.pairwise(groups))
