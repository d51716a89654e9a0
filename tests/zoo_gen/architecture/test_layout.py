import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo_gen.architecture.layout import ParameterLayout
from zoo_gen.architecture.registry import MLP, network
from zoo_gen.errors import ZooError


def mlp_layout(*widths: int, bias: bool = True) -> ParameterLayout:
    return network(MLP(name="mlp", widths=widths, bias=bias), (widths[0],), widths[-1]).layout


widths = st.lists(st.integers(1, 9), min_size=2, max_size=5)


@given(widths=widths, bias=st.booleans(), models=st.integers(0, 3))
def test_splitting_and_joining_are_inverse(widths, bias, models):
    layout = mlp_layout(*widths, bias=bias)
    weights = np.random.RandomState(0).standard_normal((models, layout.size))
    parts = layout.split(weights)
    for model in range(models):
        joined = layout.join({name: array[model] for name, array in parts.items()})
        np.testing.assert_array_equal(joined, weights[model])
    assert ParameterLayout.from_json(layout.to_json()) == layout


@given(widths=widths, bias=st.booleans())
def test_parameters_are_a_partition_of_the_vector(widths, bias):
    layout = mlp_layout(*widths, bias=bias)
    positions = [position for p in layout.parameters for position in range(p.start, p.stop)]
    assert positions == list(range(layout.size))


def test_weights_of_another_length_are_refused():
    layout = mlp_layout(3, 2)
    with pytest.raises(ZooError, match="weights of length 7 do not fit a layout of 8 parameters"):
        layout.split(np.zeros((2, 7)))


def test_parameters_that_do_not_fit_are_refused():
    layout = mlp_layout(3, 2)
    with pytest.raises(ZooError, match="do not fit the layout"):
        layout.join({"linear1.weight": np.zeros((3, 2)), "linear1.bias": np.zeros(2)})


def test_a_layout_with_a_gap_is_refused():
    content = mlp_layout(3, 2).to_json()
    content["parameters"][1]["start"] += 1
    with pytest.raises(ZooError, match=r"linear1\.bias lies at 7-8; expected 6"):
        ParameterLayout.from_json(content)


def test_an_order_that_is_no_permutation_is_refused():
    layout = mlp_layout(3, 4, 2)
    with pytest.raises(ZooError, match=r"order of linear1: \[0, 1, 2, 2\] is not a permutation of its 4 units"):
        layout.permutation({"linear1": [0, 1, 2, 2]})
    with pytest.raises(ZooError, match="unknown layer with hidden units 'linear2'; did you mean 'linear1'"):
        layout.permutation({"linear2": [1, 0]})
