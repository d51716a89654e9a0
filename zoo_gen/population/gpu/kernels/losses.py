"""Losses of one model's images or points, with what metrics count and the gradient of the mean."""

import triton
import triton.language as tl
from triton.language import constexpr

from zoo_gen.population.gpu.kernels.arithmetic import VARYING


@triton.jit(do_not_specialize=VARYING)
def classification(
    logits, order, row_of, clock, n_order, labels, labels_of, n_labels, gradient, losses, counts,
    n_images, capacity,
    CLASSES: constexpr, PITCH: constexpr, TRAIN: constexpr, BM: constexpr, BN: constexpr,
):  # fmt: skip
    """Cross-entropy of one model's images, added to its sums, and (TRAIN) the gradient of its mean.

    losses (model,) float64; counts (model, 3, BN) int32: rightly predicted, predicted and labelled, class by class.
    """
    model = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BN)
    loss = tl.zeros((BM,), tl.float32)
    right = tl.zeros((BN,), tl.int32)
    predicted = tl.zeros((BN,), tl.int32)
    labelled = tl.zeros((BN,), tl.int32)
    for start in range(0, n_images, BM):
        image = start + tl.arange(0, BM)
        ok = image < n_images
        number = tl.load(order + tl.load(row_of + model) * n_order + tl.load(clock) + image, mask=ok, other=0)
        label = tl.load(labels + tl.load(labels_of + model) * n_labels + number, mask=ok, other=0)
        offset = (model * capacity + image)[:, None] * PITCH + column[None, :]
        mask = ok[:, None] & (column < CLASSES)[None, :]
        z = tl.load(logits + offset, mask=mask, other=float("-inf"))
        z = tl.where(ok[:, None], z, 0.0)
        top = tl.max(z, axis=1)
        weight = tl.exp(z - top[:, None])
        total = tl.sum(weight, axis=1)
        is_label = column[None, :] == label[:, None]
        own = tl.sum(tl.where(is_label, z, 0.0), axis=1)
        loss += tl.where(ok, tl.log(total) - (own - top), 0.0)
        # The first of equals, as argmax; where a logit is not a number, the class is none.
        first = tl.min(tl.where(z == top[:, None], column[None, :], BN), axis=1)
        is_predicted = (column[None, :] == first[:, None]) & ok[:, None]
        is_label = is_label & ok[:, None]
        right += tl.sum((is_predicted & is_label).to(tl.int32), axis=0)
        predicted += tl.sum(is_predicted.to(tl.int32), axis=0)
        labelled += tl.sum(is_label.to(tl.int32), axis=0)
        if TRAIN:
            slope = (weight / total[:, None] - is_label.to(tl.float32)) / n_images
            tl.store(gradient + offset, slope, mask=mask)
    tl.store(losses + model, tl.load(losses + model) + tl.sum(loss, axis=0).to(tl.float64))
    own_counts = counts + model * (3 * BN) + column
    tl.store(own_counts, tl.load(own_counts) + right)
    tl.store(own_counts + BN, tl.load(own_counts + BN) + predicted)
    tl.store(own_counts + 2 * BN, tl.load(own_counts + 2 * BN) + labelled)


@triton.jit(do_not_specialize=VARYING)
def regression(
    outputs, order, row_of, clock, n_order, targets, gradient, losses, n_images, capacity, shift,
    PITCH: constexpr, TRAIN: constexpr, BM: constexpr,
):  # fmt: skip
    """Squared error of one model's points, added to its sum (model,) float64, and (TRAIN) the gradient of its mean."""
    model = tl.program_id(0).to(tl.int64)
    loss = tl.zeros((BM,), tl.float32)
    for start in range(0, n_images, BM):
        image = start + tl.arange(0, BM)
        ok = image < n_images
        number = tl.load(order + tl.load(row_of + model) * n_order + tl.load(clock) + image, mask=ok, other=0)
        target = tl.load(targets + model * n_order + number, mask=ok, other=0.0)
        output = tl.load(outputs + (model * capacity + image) * PITCH, mask=ok, other=0.0)
        error = tl.where(ok, output + shift - target, 0.0)
        loss += error * error
        if TRAIN:
            tl.store(gradient + (model * capacity + image) * PITCH, 2.0 * error / n_images, mask=ok)
    tl.store(losses + model, tl.load(losses + model) + tl.sum(loss, axis=0).to(tl.float64))
