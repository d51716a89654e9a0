"""What lies between the products of a block written out, for the tests of our kernels."""

import torch

from zoo_bench.encoders.hyper_representation import fused


def operands(rows, tokens, width, *, device="cpu", dtype=torch.float32):
    """Return random tokens, product, bias, and weight and shift of a norm; the last three in float32."""
    generator = torch.Generator().manual_seed(rows + width)

    def random(*shape, dtype=torch.float32):
        return torch.randn(shape, generator=generator).to(device, dtype).requires_grad_()

    large = [random(rows, tokens, width, dtype=dtype) for _ in range(2)]
    return (*large, random(width), random(width), random(width))


def added_and_normalized(tokens, product, bias, weight, shift, factors):
    """The sum and its norm from their definitions; `factors` of dropout (row, token, width)."""
    total = tokens + (product + bias) * factors
    centred = total - total.mean(dim=2, keepdim=True)
    return total, weight * centred / total.std(dim=2, keepdim=True) + shift


def activated(product, bias, factors):
    """ReLU and dropout from their definitions."""
    return torch.where(product + bias > 0, product + bias, 0.0) * factors


def gradients(act, tensors, *, dtype=None):
    """Return what a function gives for operands, and the gradients of these for some gradients behind it."""
    tensors = [part.detach().to(dtype or part.dtype).requires_grad_() for part in tensors]
    actual = act(*tensors)
    actual = actual if isinstance(actual, tuple) else (actual,)
    generator = torch.Generator().manual_seed(9)
    slopes = [torch.randn(part.shape, generator=generator).to(part) for part in actual]
    return *(part.detach() for part in actual), *torch.autograd.grad(actual, tensors, slopes)


def dropout_factors(shape, *, seed, dropout, device="cpu", dtype=torch.float32):
    """Return the factors of dropout for a seed (row, token, width), from a product of ones."""
    ones, bias = torch.ones(shape, device=device, dtype=dtype), torch.zeros(shape[2], device=device)
    return fused._activate(ones, bias, seed, dropout).float()
