"""Our kernels of attention against torch's in double precision; sets alone and in company; which path is taken."""

import importlib.util

import pytest
import torch

from zoo_bench.encoders.sne import attend as module
from zoo_bench.encoders.sne.attend import attend, attend_to_itself, in_lanes

pytestmark = pytest.mark.skipif(importlib.util.find_spec("llvmlite") is None, reason="needs llvmlite")

CASES = [  # sets, elements, heads, numbers of a head, whether some are masked
    (1, 1, 1, 4, False),
    (3, 5, 2, 4, True),
    (8, 16, 4, 8, False),
    (17, 16, 4, 8, True),
    (9, 9, 4, 16, False),
    (5, 33, 2, 24, True),
    (10, 144, 4, 8, False),
    (7, 12, 3, 5, True),
    (2, 64, 1, 64, True),
]


def mask_of(sets, elements, is_masked):
    if not is_masked:
        return None
    kept = torch.rand(sets, elements) < 0.7
    kept[torch.arange(sets), torch.randint(elements, (sets,))] = True
    return kept[:, None, None, :]


def plain(query, key, value, mask, scale):
    """Attention from its formula; all (set, element, head, number)."""
    scores = torch.einsum("sihd,sjhd->shij", query, key) * scale
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return torch.einsum("shij,sjhd->sihd", scores.softmax(dim=-1), value)


def check(found, expected, inputs, *, sharpness):
    """Compare outputs and gradients with those in double precision, within what float32 makes of such scores."""
    given = torch.randn_like(found)
    gradients = torch.autograd.grad(found, [own for own, _ in inputs], given)
    wanted = torch.autograd.grad(expected, [other for _, other in inputs], given.double())
    for one, other in zip((found, *gradients), (expected, *wanted), strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(
            one.double(), other, rtol=1e-5, atol=sharpness * 1e-6 * float(other.detach().abs().max())
        )


@pytest.mark.parametrize("spread", [0.5, 3.0])
@pytest.mark.parametrize(("sets", "elements", "heads", "dim", "is_masked"), CASES)
def test_attention_of_sets_to_themselves_equals_the_formula(sets, elements, heads, dim, is_masked, spread):
    torch.manual_seed(0)
    projected = (torch.randn(sets, elements, 3, heads, dim) * spread).requires_grad_()
    double = projected.detach().double().requires_grad_()
    mask = mask_of(sets, elements, is_masked)
    found = attend_to_itself(projected, mask)
    expected = plain(*double.unbind(dim=2), mask, dim**-0.5)
    check(found, expected, [(projected, double)], sharpness=10 * spread)


@pytest.mark.parametrize("queries", [1, 4, 7])
@pytest.mark.parametrize(("sets", "elements", "heads", "dim", "is_masked"), CASES)
def test_attention_to_shared_elements_equals_the_formula(sets, elements, heads, dim, is_masked, queries):
    torch.manual_seed(1)
    query = torch.randn(sets, queries, heads, dim, requires_grad=True)
    shared = torch.randn(sets, elements, dim, requires_grad=True)
    inputs = [(its, its.detach().double().requires_grad_()) for its in (query, shared)]
    mask = mask_of(sets, elements, is_masked)
    found = attend(query, shared, mask, scale=0.7)
    keys = inputs[1][1].unsqueeze(2).expand(-1, -1, heads, -1)
    check(found, plain(inputs[0][1], keys, keys, mask, 0.7), inputs, sharpness=10)


def test_queries_that_are_the_same_for_all_sets_sum_their_gradients():
    torch.manual_seed(2)
    query, shared = torch.randn(1, 4, 1, 8, requires_grad=True), torch.randn(5, 6, 8)
    double = query.detach().double().requires_grad_()
    found = attend(query.expand(5, -1, -1, -1), shared, None, scale=1.0)
    keys = shared.double().unsqueeze(2)
    expected = plain(double.expand(5, -1, -1, -1), keys, keys, None, 1.0)
    check(found, expected, [(query, double)], sharpness=10)


def test_a_set_alone_and_in_company_gives_the_same_bits_on_any_number_of_threads():
    torch.manual_seed(3)
    projected, given = torch.randn(19, 11, 3, 4, 8), torch.randn(19, 11, 4, 8)
    mask = mask_of(19, 11, True)

    def both(rows):
        its = projected[rows].requires_grad_()
        found = attend_to_itself(its, mask[rows])
        found.backward(given[rows])
        return found.detach(), its.grad

    before = torch.get_num_threads()
    together = both(slice(0, 19))
    for one in range(19):
        for alone, its in zip(both(slice(one, one + 1)), together, strict=True):
            assert torch.equal(alone[0], its[one])
    try:
        torch.set_num_threads(3)
        again = both(slice(0, 19))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, other) for one, other in zip(again, together, strict=True))


def test_masked_elements_change_no_bit_and_get_no_gradient():
    torch.manual_seed(4)
    kept = torch.randn(3, 6, 3, 2, 4)
    padded = torch.cat([kept, torch.randn(3, 5, 3, 2, 4) * 50], dim=1).requires_grad_()
    mask = (torch.arange(11) < 6).expand(3, 1, 1, -1)
    found = attend_to_itself(padded, mask)[:, :6]
    assert torch.equal(found, attend_to_itself(kept, None))
    found.sum().backward()
    assert not padded.grad[:, 6:].any()


def test_scores_far_apart_give_the_value_of_the_highest():
    query, shared = torch.full((1, 1, 1, 1), 1e4), torch.tensor([[[1.0], [-3.0], [2.0]]])
    assert attend(query, shared, None, scale=1.0).item() == 2.0


def test_powers_of_two_are_right_to_two_units_in_the_last_place():
    """Of two elements with scores 0 and -x, values 0 and 1, the mean is e / (1 + e), e the power."""
    x = torch.linspace(0, 60, 4001)
    shared = torch.stack([torch.zeros_like(x), torch.ones_like(x)], dim=1).unsqueeze(2)
    found = attend(-x.view(-1, 1, 1, 1), shared, None, scale=1.0).view(-1).double()
    # The score itself is rounded, by half a unit in its last place: x 2^-24 of the power.
    expected = (-x.double()).sigmoid()
    assert ((found / expected - 1).abs() < (8 + 2 * x) * 2.0**-24).all()


@pytest.mark.parametrize(
    ("shape", "dtype", "expected"),
    [
        ((2, 16, 8), torch.float32, True),
        ((2, 16, 8), torch.float64, False),
        ((2, module.LONGEST + 1, 8), torch.float32, False),
    ],
)
def test_only_small_sets_in_float32_take_our_kernels(shape, dtype, expected):
    assert in_lanes(torch.zeros(shape, dtype=dtype), 8) == expected


def test_without_llvmlite_torch_computes_the_same(monkeypatch):
    torch.manual_seed(5)
    projected, mask = torch.randn(4, 7, 3, 2, 8), mask_of(4, 7, True)
    query, shared = torch.randn(4, 7, 2, 3), torch.randn(4, 7, 3)
    ours = attend_to_itself(projected, mask), attend(query, shared, mask, scale=0.5)
    monkeypatch.setattr(module, "can_compile", lambda: False)
    theirs = attend_to_itself(projected, mask), attend(query, shared, mask, scale=0.5)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
