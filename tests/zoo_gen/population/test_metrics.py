import numpy as np
import torch
from sklearn.metrics import accuracy_score, f1_score, log_loss

from zoo_gen.population.metrics import IMAGES_AT_ONCE, evaluate


def test_metrics_equal_scikit_learns():
    torch.manual_seed(0)
    n_images, n_classes, n_models = 2 * IMAGES_AT_ONCE + 100, 5, 3
    logits = torch.randn(n_models, n_classes, n_images, dtype=torch.float64)
    logits[2, 0] += 12  # this model always answers 0, so that other classes are never predicted
    labels = torch.randint(0, n_classes, (n_images,))
    images = torch.arange(n_images).view(-1, 1, 1, 1)

    found = evaluate(lambda some: logits[:, :, some.flatten()], images, labels, n_classes=n_classes)

    for model in range(n_models):
        predicted = logits[model].argmax(dim=0)
        probabilities = logits[model].softmax(dim=0).T.numpy()
        assert found.accuracy[model].item() == accuracy_score(labels, predicted)
        np.testing.assert_allclose(
            found.loss[model], log_loss(labels, probabilities, labels=range(n_classes)), rtol=1e-9
        )
        expected = f1_score(labels, predicted, average=None, labels=range(n_classes), zero_division=0.0)
        np.testing.assert_allclose(found.class_f1[model], expected, rtol=1e-12)
