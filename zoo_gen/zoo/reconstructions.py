"""What networks that are fitted to images show, each beside its image."""

import numpy as np

from zoo_gen.errors import ZooError
from zoo_gen.image_data import FittedImages, load_image_data
from zoo_gen.zoo import Zoo

_SHOWN = 10  # models, spread evenly over the zoo


def reconstructions(zoo: Zoo) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Return some models with their images, and what they show after the last epoch.

    Returns:
        Model ids (model,), images and reconstructions (model, height, width, channel) from 0 to 1; None where the
        networks are fitted to something else, or the images are not here.
    """
    import torch

    source = zoo.manifest.data
    if source is None or not source.fitted_images:
        return None
    ids = zoo.models["model_id"].to_numpy()[np.isfinite(zoo.models["train_mse"].to_numpy())]
    if not len(ids):
        return None
    try:
        data = load_image_data(source)
    except ZooError:
        return None
    assert isinstance(data, FittedImages)
    models = ids[np.linspace(0, len(ids) - 1, min(_SHOWN, len(ids))).round().astype(int)]
    coordinates = torch.from_numpy(data.coordinates).float()
    with torch.no_grad():
        shown = np.stack([zoo.module(int(model))(coordinates).numpy() for model in models])  # (model, pixel, channel)
    images = data.values(zoo.view(models).hyperparameter("image")).transpose(0, 2, 1)
    offset = float(data.image_set.offset.min())
    shape = (len(models), *data.image_set.input_shape[1:], data.n_outputs)
    both = (values.reshape(shape) for values in (images, shown))
    original, rebuilt = (np.clip((values - offset) / data.value_range, 0, 1) for values in both)
    return models, original, rebuilt
