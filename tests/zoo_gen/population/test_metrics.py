import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score, log_loss

from zoo_gen.population.metrics import IMAGES_AT_ONCE, classification, pieces, without_gradient


def test_metrics_equal_scikit_learns():
    torch.manual_seed(0)
    n_images, n_classes, n_models = 2 * IMAGES_AT_ONCE + 100, 5, 3
    logits = torch.randn(n_models, n_classes, n_images, dtype=torch.float64)
    logits[2, 0] += 12  # this model always answers 0, so that other classes are never predicted
    labels = torch.randint(0, n_classes, (n_images,))
    outputs = without_gradient(lambda images: logits[:, :, images], labels.unsqueeze(0), n_images)

    actual = classification(outputs, n_classes=n_classes)

    for model in range(n_models):
        predicted = logits[model].argmax(dim=0)
        probabilities = logits[model].softmax(dim=0).T.numpy()
        assert actual["accuracy"][model].item() == accuracy_score(labels, predicted)
        np.testing.assert_allclose(
            actual["loss"][model], log_loss(labels, probabilities, labels=range(n_classes)), rtol=1e-9
        )
        expected = f1_score(labels, predicted, average=None, labels=range(n_classes), zero_division=0.0)
        np.testing.assert_allclose(actual["class_f1"][model], expected, rtol=1e-12)


@pytest.mark.parametrize("n_images", [2, IMAGES_AT_ONCE, IMAGES_AT_ONCE + 1, 10 * IMAGES_AT_ONCE + 7])
def test_pieces_cover_all_images_and_none_holds_one(n_images):
    actual = pieces(n_images)
    assert [image for piece in actual for image in range(piece.start, piece.stop)] == list(range(n_images))
    assert all(2 <= piece.stop - piece.start <= IMAGES_AT_ONCE for piece in actual)
