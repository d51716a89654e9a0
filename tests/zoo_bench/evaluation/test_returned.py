"""What encoders return that is no embedding and no prediction: one line that says what came and what was expected."""

import numpy as np
import pytest
from scipy import sparse

from zoo_bench.evaluation.candidate import Candidate, described, plain_config
from zoo_bench.evaluation.failing import EncoderError
from zoo_bench.evaluation.rows import checked_embeddings, checked_predictions, returned
from zoo_bench.protocol.views import WeightsView
from zoo_gen.errors import ZooError

VIEW = WeightsView(np.zeros((4, 1, 3), np.float32), None)


class Returns:
    """An encoder that returns what it was made with."""

    def __init__(self, values, config=None):
        self.values, self.config = values, config or {}

    def fit(self, train, validation, *, seed):
        return self

    def encode(self, view):
        return self.values


def array(dtype, spoiled=None):
    """Return an array (4, 2), its last number spoiled."""
    values = np.arange(8).reshape(4, 2).astype(dtype)
    if spoiled is not None:
        values[3, 1] = spoiled
    return values


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (None, "encode returned a NoneType; expected an array"),
        (sparse.csr_matrix(np.eye(4)), "encode returned a csr_matrix; expected an array"),
        ([[1.0], [1.0, 2.0]], "encode returned a list that is no array: ValueError: .*inhomogeneous shape"),
        (np.zeros((3, 2)), r"encode returned shape \(3, 2\); expected \(4, dimension\), a row a checkpoint"),
        (np.zeros((4, 1, 2)), r"encode returned shape \(4, 1, 2\); expected \(4, dimension\)"),
        (np.full((4, 1), "a"), "encode returned values of type <U1; expected real numbers"),
        (np.array([[{}]] * 4), "encode returned values of type object; expected numbers"),
        *(
            (
                array(dtype, spoiled),
                r"encode returned numbers that are not finite in 1 of 4 rows, first in dimension 1;",
            )
            for dtype in (np.float16, np.float32, np.float64)
            for spoiled in (np.nan, -np.inf)
        ),
        (
            array(np.float64, 1e200),
            r"encode returned numbers that are not finite in .*; expected finite embeddings .*, none beyond 1e\+150",
        ),
    ],
)
def test_what_is_no_embedding_is_one_line(values, message):
    with pytest.raises(EncoderError, match=rf"^encoder 'mine': {message}[^\n]*$"):
        checked_embeddings("mine", returned("mine", Returns(values), "encode", VIEW), 4)


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint64, np.float16, np.float32, np.float64])
def test_numbers_of_every_real_type_are_embeddings_that_can_be_subtracted(dtype):
    embeddings = checked_embeddings("mine", array(dtype), 4)
    np.testing.assert_array_equal(embeddings, array(dtype))
    assert (embeddings - embeddings == 0).all()


@pytest.mark.parametrize("spoiled", [np.nan, np.inf, 1e39])
def test_a_prediction_that_cannot_be_stored_is_one_line(spoiled):
    with pytest.raises(EncoderError, match=r"not finite for 1 of 4 rows; expected .* none beyond 3.4e\+38$"):
        checked_predictions("mine", array(np.float64, spoiled)[:, 1], 4, is_number=True)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ([], r"config is \[\]; expected a dictionary of plain data"),
        (
            {"a": np.int64(3)},
            "config: Object of type int64 is not JSON serializable; expected plain data: text",
        ),
        ({"a": float("nan")}, "config: Out of range float values are not JSON compliant.*; expected plain data"),
    ],
)
def test_settings_that_no_result_can_hold_are_one_line_that_names_no_file_of_ours(config, message):
    encoder = Returns(None)
    encoder.config = config
    with pytest.raises(ZooError, match=message):
        plain_config(encoder)
    with pytest.raises(EncoderError, match=rf"^encoder 'mine': cannot be used: {message}[^()]*$"):
        described(Candidate.of(encoder, name="mine"))
