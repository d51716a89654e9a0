"""Pictures of what networks that are fitted to images show, each beside its image."""

from pathlib import Path

import numpy as np

from zoo_gen.errors import ZooError
from zoo_gen.image_data import FittedImages, ImageFields, load_image_data
from zoo_gen.zoo import Zoo

_SHOWN = 10  # models, spread evenly over the zoo


def reconstructions(zoo: Zoo) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Return some models with their images, and what they show after the last epoch.

    Returns:
        Model ids (model,), images and reconstructions (model, height, width, channel) from 0 to 1; None where the
        networks are fitted to something else, or the images are not here.
    """
    import torch

    if not isinstance(zoo.manifest.data, ImageFields):
        return None
    ids = zoo.models["model_id"].to_numpy()[np.isfinite(zoo.models["train_mse"].to_numpy())]
    if not len(ids):
        return None
    try:
        data = load_image_data(zoo.manifest.data)
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


def draw(zoo: Zoo, path: Path) -> Path | None:
    """Write images above their reconstructions as a PNG file and return its path; None where there are none."""
    from matplotlib import pyplot

    found = reconstructions(zoo)
    if found is None:
        return None
    models, *pictures = found
    figure, grid = pyplot.subplots(
        2, len(models), figsize=(0.9 * len(models) + 0.6, 2.6), layout="constrained", squeeze=False
    )
    quality = dict(zip(zoo.models["model_id"].to_pylist(), zoo.models["train_psnr"].to_pylist(), strict=True))
    for row, (label, images) in enumerate(zip(("image", "network"), pictures, strict=True)):
        for axes, image, model in zip(grid[row], images, models.tolist(), strict=True):
            axes.imshow(image.squeeze(), cmap="gray", vmin=0, vmax=1)
            axes.set(xticks=[], yticks=[])
            if row == 1:
                axes.set_xlabel(f"{quality[model]:.0f} dB", fontsize=8)
        grid[row, 0].set_ylabel(label)
    figure.suptitle(f"{zoo.name}: images and what networks fitted to them show")
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
    return path
