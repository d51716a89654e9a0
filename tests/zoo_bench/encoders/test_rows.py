"""Encoders compute alike whatever the order of rows and what stands beside them, and alike in each fit of a seed."""

import hashlib
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from tests.zoo_bench.encoders.layouts import CNN, random_view
from zoo_bench.encoders import ENCODERS, make_encoder
from zoo_bench.encoders.rows import blocks, canonical_order, in_canonical_blocks
from zoo_bench.encoders.training.runtime import Runtime
from zoo_bench.protocol.views import WeightsView

# One of each kind; the others of a kind differ in settings alone.
KINDS = ("weight_statistics", "pca", "statistics_boosting", "statistics_network", "mlp", "deep_sets_small", "sne_small")
KINDS = (*KINDS, "hyper_representation_small")


def test_rows_have_one_order_whatever_order_they_come_in():
    rows = np.random.RandomState(0).standard_normal((20, 3)).astype(np.float32)
    shuffled = rows[np.random.RandomState(1).permutation(20)]
    np.testing.assert_array_equal(rows[canonical_order(rows)], shuffled[canonical_order(shuffled)])


def test_blocks_have_one_size_and_cover_all_rows():
    assert [block.tolist() for block in blocks(7, 3)] == [[0, 1, 2], [3, 4, 5], [6, 6, 6]]
    rows = np.random.RandomState(0).standard_normal((7, 4))
    np.testing.assert_array_equal(in_canonical_blocks(rows, lambda block: block * 2, size=3), rows * 2)


def fitted(name):
    encoder = make_encoder(name, runtime=Runtime(device="cpu"))
    if hasattr(encoder, "training"):
        encoder.training = replace(encoder.training, epochs=2, steps=4, batch_size=8)
    if hasattr(encoder, "configuration"):
        encoder.configuration = replace(encoder.configuration, epochs=2, steps=4, batch_size=8)
    if name == "statistics_boosting":
        encoder._most_trees = 20
    return encoder.fit([random_view(CNN, models=24)], [random_view(CNN, models=8, seed=1)], seed=0)


def computed(encoder, rows):
    """Return embeddings and, behind them, predictions of rows (row, number)."""
    view = WeightsView(rows[:, None], CNN)
    parts = [encoder.encode(view), *([encoder.predict(view)[:, None]] if hasattr(encoder, "predict") else [])]
    return np.concatenate(parts, axis=1)


def nine_rows():
    return random_view(CNN, models=9, seed=5).weights[:, 0]


@pytest.mark.parametrize("name", KINDS)
def test_a_row_gives_the_same_in_any_order_and_company(name):
    encoder = fitted(name)
    rows, others = (random_view(CNN, models=70, seed=seed).weights[:, 0] for seed in (2, 3))
    values = computed(encoder, rows)
    order = np.random.RandomState(0).permutation(len(rows))
    np.testing.assert_array_equal(computed(encoder, rows[order]), values[order])
    beside = np.concatenate([others[:35], rows[:35]])
    np.testing.assert_allclose(computed(encoder, beside)[35:], values[:35], rtol=1e-5, atol=1e-6)


LEARNED = ("pca", "statistics_boosting", "mlp", "sne_small", "hyper_representation_small")
PROGRAM = """
import torch
from tests.zoo_bench.encoders.test_rows import digests
torch.set_num_threads(1)
print(*digests())
"""


def digests():
    """Return the SHA-256 of what each kind that learns, fitted afresh, makes of nine networks."""
    return [hashlib.sha256(computed(fitted(name), nine_rows()).tobytes()).hexdigest() for name in LEARNED]


def in_this_process():
    return digests()


def in_a_fresh_process():
    return subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.parametrize("repeated", [in_this_process, pytest.param(in_a_fresh_process, marks=pytest.mark.thorough)])
def test_two_fits_of_a_seed_give_the_same_bits(repeated):
    assert digests() == repeated()


def test_the_kinds_are_shipped():
    assert set(KINDS) <= set(ENCODERS)
