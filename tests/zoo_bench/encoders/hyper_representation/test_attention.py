"""Our kernels for attention against the formula in float64; without a GPU, Triton's interpreter runs them."""

import pytest
import torch

from tests.zoo_bench.encoders.hyper_representation.attended import dropout_factors, formula, gradients, operands
from tests.zoo_bench.layouts import TETRIS
from zoo_bench.encoders.hyper_representation import attention, kernel_support
from zoo_bench.encoders.hyper_representation.configurations import PAPER
from zoo_bench.encoders.hyper_representation.network import Autoencoder
from zoo_gen.architecture.tokens import Tokens

pytest.importorskip("triton")
pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="compiled here; test_attention_cuda.py runs them")

# rows, queries (0: every token asks), tokens, heads, width of a head
SHAPES = [
    (2, 0, 10, 4, 64),
    (2, 0, 49, 2, 200),
    (1, 0, 64, 1, 400),
    (2, 1, 10, 4, 64),
    (3, 1, 50, 2, 33),
    (2, 5, 17, 3, 20),
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_attention_and_its_gradients_are_those_of_the_formula(shape):
    projected, queries = operands(*shape)
    heads = shape[3]
    actual = gradients(lambda *tensors: attention.attended(*tensors, None, heads, 0.0), projected, queries)
    expected = gradients(lambda *tensors: formula(*tensors, heads), projected, queries, dtype=torch.float64)
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=3e-6)


@pytest.mark.parametrize("shape", [(3, 0, 10, 2, 16), (2, 0, 49, 2, 64), (5, 1, 40, 2, 40)], ids=str)
def test_with_dropout_they_are_those_of_the_formula_with_these_weights_dropped(shape):
    projected, queries = operands(*shape)
    heads, seed = shape[3], torch.tensor([2**31 - 5])
    factors = dropout_factors(*shape, seed=seed, dropout=0.3)
    assert factors[factors > 0].tolist() == pytest.approx([1 / 0.7] * int((factors > 0).sum()), rel=1e-5)
    assert 0.2 < (factors == 0).float().mean() < 0.4
    actual = gradients(lambda *tensors: attention.attended(*tensors, seed, heads, 0.3), projected, queries)
    expected = gradients(lambda *tensors: formula(*tensors, heads, factors), projected, queries, dtype=torch.float64)
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=3e-6)


def test_dropout_keeps_its_share_everywhere_and_each_weight_alone():
    shape = (12, 0, 40, 3, 40)
    factors = dropout_factors(*shape, seed=torch.tensor([3]), dropout=0.1)
    left = (factors > 0).float()  # (row, head, query, key)
    n = left.numel()
    assert left.mean().item() == pytest.approx(0.9, abs=4 * (0.09 / n) ** 0.5)
    for axis in range(4):  # neighbours along no axis go together, nor do those that share a call of the generator
        for apart in range(1, min(4, left.shape[axis])):
            size = left.shape[axis] - apart
            first, second = left.narrow(axis, 0, size), left.narrow(axis, apart, size)
            pair = torch.stack([first.flatten(), second.flatten()])
            assert torch.corrcoef(pair)[0, 1].item() == pytest.approx(0, abs=4.5 / pair.shape[1] ** 0.5)


def test_torch_may_trace_the_operation_and_its_gradient():
    projected, queries = operands(2, 1, 5, 2, 16)
    seed = torch.tensor([7])
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(attention.attended, (projected, queries, seed, 2, 0.2), test_utils=checks)
    projected, _ = operands(2, 0, 5, 2, 16)
    torch.library.opcheck(attention.attended, (projected, None, None, 2, 0.0), test_utils=checks)


def test_an_autoencoder_is_the_same_with_our_kernels_as_with_torchs(monkeypatch):
    def losses_gradient():
        torch.manual_seed(0)
        module = Autoencoder(Tokens.of(TETRIS), PAPER["tetris_hyp"]).eval()  # whose feed-forward rows are filled up
        embeddings, actual = module(torch.randn(2, TETRIS.size), reconstruct=True)
        loss = embeddings.square().mean() + actual.square().mean()
        parameters = [parameter for name, parameter in module.named_parameters() if not name.startswith("head")]
        return loss.detach(), *torch.autograd.grad(loss, parameters)

    def refuse(*arguments, **options):
        pytest.fail("torch computes what our kernels are for")

    expected = losses_gradient()
    monkeypatch.setattr(kernel_support, "has_kernels", lambda: True)
    monkeypatch.setattr(kernel_support, "fits", lambda *arguments: True)
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", refuse)
    monkeypatch.setattr(torch.Tensor, "relu", refuse)
    for one, other in zip(losses_gradient(), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_training_draws_its_seed_from_torchs_generator_and_evaluation_draws_nothing(monkeypatch):
    monkeypatch.setattr(kernel_support, "fits", lambda *arguments: True)
    projected, _ = operands(2, 0, 9, 2, 16)

    def attended(dropout):
        return attention.attend(projected, heads=2, dropout=dropout, has_kernels=True).detach()

    torch.manual_seed(4)
    first, second = attended(0.5), attended(0.5)
    torch.manual_seed(4)
    assert torch.equal(attended(0.5), first)
    assert not torch.equal(first, second)
    state = torch.get_rng_state()
    attended(0.0)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_compiled_function_attends_without_a_break(monkeypatch):
    monkeypatch.setattr(kernel_support, "fits", lambda *arguments: True)

    def act(projected, queries):
        return attention.attend(projected, queries=queries, heads=2, dropout=0.0, has_kernels=True)

    compiled = torch.compile(act, backend="aot_eager", fullgraph=True, dynamic=False)
    for shape in ((2, 0, 9, 2, 16), (2, 1, 9, 2, 16)):
        actual, expected = gradients(compiled, *operands(*shape)), gradients(act, *operands(*shape))
        assert all(torch.equal(one, other) for one, other in zip(actual, expected, strict=True))
