"""What a hyper-representation minimises: two views of each sample, contrasted and reconstructed.

The weights of all samples live on the device; a batch is gathered there by number and its views are drawn there.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from zoo_bench.encoders.hyper_representation import losses
from zoo_bench.encoders.hyper_representation.augment import Augmentation, Permutations
from zoo_bench.encoders.hyper_representation.configurations import Configuration
from zoo_bench.encoders.hyper_representation.network import Autoencoder
from zoo_bench.encoders.training.loop import Purpose, stream_seed
from zoo_bench.encoders.training.steps import gather

# Contrast and reconstruction (E_cD), contrast alone (E_c), reconstruction alone (ED), and a contrast that only pulls
# the views of a sample together, with reconstruction (E_c+D).
LossName = Literal["E_cD", "E_c", "ED", "E_c+D"]
FEW = 1024  # rows that validate a training of a given number of steps


class Objective:
    """The loss of a batch and the validation score.

    Args:
        module: the autoencoder; what the loss leaves out of it is frozen.
        name: which loss.
        train: training weights (sample, parameter), on the module's device.
        validation: validation weights (sample, parameter), there too.
        configuration: gives gamma, temperature and the batch size of validation.
        augmentation: how views are made.
        permutations: of the architecture.
        target: what is reconstructed, the "augmented" view or the "clean" one.
        seed: of the views that validate.

    Attributes:
        comparison: the part of a step that may be compiled.
    """

    def __init__(
        self,
        module: Autoencoder,
        name: LossName,
        *,
        train: Tensor,
        validation: Tensor,
        configuration: Configuration,
        augmentation: Augmentation,
        permutations: Permutations,
        target: Literal["augmented", "clean"],
        seed: int,
    ) -> None:
        gamma = {"E_c": 1.0, "ED": 0.0}.get(name, configuration.gamma)
        self.comparison = Comparison(
            module, gamma=gamma, only_positive=name == "E_c+D", temperature=configuration.temperature
        )
        self.train = train
        self.validation = validation
        self.configuration = configuration
        self.augmentation = augmentation
        self.permutations = permutations
        self.target = target
        self.seed = stream_seed(seed, Purpose.VALIDATION)
        module.decoder.requires_grad_(gamma < 1)
        module.head.requires_grad_(gamma > 0)

    def loss(self, samples: Tensor, generator: torch.Generator) -> Tensor:
        """Return the loss of a batch of training samples (sample,)."""
        return self._loss(self.train[samples], generator)

    def score(self) -> float:
        """Return minus the mean validation loss, over batches and views that are the same each time."""
        generator = torch.Generator(self.validation.device).manual_seed(self.seed)
        order = torch.randperm(len(self.validation), generator=generator, device=self.validation.device)
        if self.configuration.steps is not None:  # few steps need no longer validation than this
            order = order[:FEW]
        batches = list(order.split(min(self.configuration.batch_size, len(order))))
        # The contrast depends on how many rows there are, so a last batch that is smaller is left out.
        batch_losses = [self._loss(self.validation[b], generator) for b in batches if len(b) == len(batches[0])]
        return -torch.stack(batch_losses).mean().item()

    def _loss(self, weights: Tensor, generator: torch.Generator) -> Tensor:
        """Return gamma x contrast + (1 - gamma) x reconstruction of two views of weights (row, parameter)."""
        # Both views in one batch of twice as many rows: each row draws its own permutation, noise and block.
        views, clean = self.augmentation.views(weights.repeat(2, 1), self.permutations, generator)
        return self.comparison(views, views if self.target == "augmented" else clean)


class Comparison(nn.Module):
    """The loss of views that are drawn: all of a step that draws from no generator but torch's own.

    Compiled as a whole, because head and contrast are dozens of operations on few numbers.
    """

    def __init__(self, autoencoder: Autoencoder, *, gamma: float, only_positive: bool, temperature: float) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.gamma = gamma
        self.only_positive = only_positive
        self.temperature = temperature

    def forward(self, views: Tensor, target: Tensor) -> Tensor:
        """Return the loss of views (view x row, parameter), of which `target` is to be reconstructed."""
        embeddings, reconstructed = self.autoencoder(views, reconstruct=self.gamma < 1)
        parts = []
        if self.gamma > 0:
            parts.append(self.gamma * self._contrast(embeddings))
        if reconstructed is not None:
            target = target[:, self.autoencoder.encoder.order]
            parts.append((1 - self.gamma) * losses.reconstruction(reconstructed, target))
        return torch.stack(parts).sum()

    def _contrast(self, embeddings: Tensor) -> Tensor:
        """Return the contrast of embeddings (view x row, latent); in training over the rows of all processes."""
        pair = embeddings.unflatten(0, (2, -1))
        if self.autoencoder.training:
            pair = gather(pair.transpose(0, 1)).transpose(0, 1)
        first, second = self.autoencoder.head(pair.flatten(0, 1)).unflatten(0, (2, -1)).unbind(0)
        if self.only_positive:
            return losses.positive_contrast(first, second)
        return losses.nt_xent(first, second, self.temperature)
