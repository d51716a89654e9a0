import numpy as np
import pytest
import torch
from scipy import stats

from zoo_gen.population.random import Purpose, data_order, kept_by_dropout, noisy_labels, random_bits, uniforms

MASK = 2**64 - 1
GOLDEN = 0x9E3779B97F4A7C15


def splitmix64(state: int, count: int) -> list[int]:
    """SplitMix64 in plain integers, as its authors state it."""
    outputs = []
    for _ in range(count):
        state = (state + GOLDEN) & MASK
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        outputs.append(z ^ (z >> 31))
    return outputs


def stream_key(seed: int, purpose: int, step: int) -> int:
    """The documented key; SplitMix64's first output from a state is mix(state + g)."""
    first = splitmix64(seed, 1)[0]
    second = splitmix64((first + purpose * GOLDEN - GOLDEN) & MASK, 1)[0]
    return splitmix64((second + step * GOLDEN - GOLDEN) & MASK, 1)[0]


def test_the_reference_gives_the_published_outputs():
    assert splitmix64(1234567, 3) == [6457827717110365317, 3203168211198807973, 9817491932198370423]


@pytest.mark.parametrize("seed", [0, 1, 12345, 2**63 - 1])
def test_bits_equal_splitmix64_in_plain_integers(seed):
    expected = splitmix64(stream_key(seed, Purpose.DATA_ORDER, 7), 20)
    actual = random_bits(torch.tensor([seed]), Purpose.DATA_ORDER, 7, 20)[0]
    assert [word & MASK for word in actual.tolist()] == expected
    tail = random_bits(torch.tensor([seed]), Purpose.DATA_ORDER, 7, 5, start=15)[0]
    assert torch.equal(tail, actual[15:])


def test_a_models_draws_do_not_depend_on_the_population_around_it():
    alone = random_bits(torch.tensor([42]), Purpose.WEIGHTS, 0, 100)[0]
    among = random_bits(torch.tensor([7, 42, 9]), Purpose.WEIGHTS, 0, 60)[1]
    assert (alone[:60] == among).all()


def test_purposes_steps_and_seeds_have_streams_of_their_own():
    keys = [(seed, purpose, step) for seed in range(20) for purpose in Purpose for step in range(20)]
    first = {int(random_bits(torch.tensor([s]), p, t, 1)[0, 0]) for s, p, t in keys}
    assert len(first) == len(keys)


def test_uniforms_are_uniform():
    values = uniforms(torch.arange(100), Purpose.WEIGHTS, 0, 1000).numpy()
    assert 0 < values.min() < values.max() < 1
    assert stats.kstest(values.ravel(), "uniform").pvalue > 1e-3


@pytest.mark.parametrize("n_images", [1, 2, 3, 1000, 1024, 1025])
def test_data_orders_are_permutations(n_images):
    orders = data_order(torch.arange(5), 1, n_images).numpy()
    assert (np.sort(orders, axis=1) == np.arange(n_images)).all()


def test_every_permutation_of_four_is_equally_likely():
    orders = data_order(torch.arange(24_000), 3, 4).numpy()
    _, counts = np.unique(orders @ [64, 16, 4, 1], return_counts=True)
    assert len(counts) == 24
    assert stats.chisquare(counts).pvalue > 1e-3


def test_the_order_changes_with_the_epoch():
    first, second = (data_order(torch.tensor([1]), epoch, 1000)[0] for epoch in (1, 2))
    assert abs(stats.spearmanr(first, second).statistic) < 0.1


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9])
def test_dropout_keeps_the_share_it_should_independently_of_place_and_step(rate):
    seeds, rates = torch.arange(40), torch.full((40,), rate)
    first = kept_by_dropout(seeds, rates, 3, 1001, start=0)
    share = first.double().mean().item()
    assert share == pytest.approx(1 - rate, abs=5 * (rate * (1 - rate) / first.numel()) ** 0.5 + 1e-4)
    second = kept_by_dropout(seeds, rates, 4, 1001, start=0)
    if rate:
        assert abs(np.corrcoef(first.flatten(), second.flatten())[0, 1]) < 0.03
        assert abs(np.corrcoef(first[:, :-1].flatten(), first[:, 1:].flatten())[0, 1]) < 0.03
        assert abs(np.corrcoef(first[:-1].flatten(), first[1:].flatten())[0, 1]) < 0.03
    later = kept_by_dropout(seeds, rates, 3, 1, start=1000)
    assert torch.equal(later[:, 0], first[:, 1000])


def test_noisy_labels_are_other_classes_equally_often():
    labels = torch.arange(50_000) % 5
    actual = noisy_labels(torch.tensor([1, 2]), torch.tensor([0.0, 0.3]), labels, n_classes=5)
    assert torch.equal(actual[0], labels)
    replaced = actual[1] != labels
    assert replaced.double().mean().item() == pytest.approx(0.3, abs=0.01)
    distances = (actual[1] - labels)[replaced] % 5
    assert stats.chisquare(np.bincount(distances, minlength=5)[1:]).pvalue > 1e-3
