"""What SANE minimises: two views of a window of each network, contrasted and reconstructed.

Views are the network with its hidden units in random orders; both show the tokens at the same places. What is read is
noisy, and what is reconstructed is not.
"""

import numpy as np
import torch
from torch import Tensor

from zoo_bench.encoders.hyper_representation import losses
from zoo_bench.encoders.sane.network import SequenceAutoencoder, mean_code, reconstruction
from zoo_bench.encoders.sane.settings import Settings
from zoo_bench.encoders.sane.windows import Windows
from zoo_bench.encoders.sne.invariance import Permuter, has_symmetries
from zoo_bench.encoders.training.loop import Purpose, stream_seed
from zoo_bench.encoders.training.networks import Networks
from zoo_bench.encoders.training.steps import gather

FEW = 1024  # validation networks at most that a training is scored on


class Part:
    """Networks of one part of a split on the device, with what draws views and windows of them."""

    def __init__(self, networks: Networks, settings: Settings) -> None:
        device = networks.offsets.device
        self.networks = networks
        self.windows = Windows(networks.layouts, size=settings.token, most=settings.window, device=device)
        permutes = settings.permute and has_symmetries(networks.layouts)
        self.permuter = Permuter(networks.layouts, device) if permutes else None
        self.layouts = torch.from_numpy(networks.layout_of).to(device)


class Objective:
    """The loss of a batch and the validation score.

    Args:
        module: the autoencoder.
        settings: of it and its loss.
        train: standardised training networks.
        validation: standardised validation networks.
        batch_size: of validation.
        seed: of the views that validate.
    """

    def __init__(
        self,
        module: SequenceAutoencoder,
        settings: Settings,
        *,
        train: Networks,
        validation: Networks,
        batch_size: int,
        seed: int,
    ) -> None:
        self.module, self.settings = module, settings
        self.train, self.validation = Part(train, settings), Part(validation, settings)
        self.batch_size = batch_size
        self.seed = stream_seed(seed, Purpose.VALIDATION)
        for unused in (module.expand, module.decoder, module.output):
            unused.requires_grad_(settings.gamma < 1)
        module.head.requires_grad_(settings.gamma > 0)

    def loss(self, samples: Tensor, generator: torch.Generator) -> Tensor:
        """Return the loss of a batch of training networks (network,)."""
        return self._loss(self.train, samples, generator)

    def score(self) -> float:
        """Return minus the mean validation loss, over networks, windows and views that are the same each time."""
        device = self.validation.layouts.device
        generator = torch.Generator(device).manual_seed(self.seed)
        order = torch.randperm(len(self.validation.layouts), generator=generator, device=device)[:FEW]
        batches = order.split(min(self.batch_size, len(order)))
        # The contrast depends on how many networks there are, so a last batch that is smaller is left out.
        of_batches = [self._loss(self.validation, b, generator) for b in batches if len(b) == len(batches[0])]
        return -torch.stack(of_batches).mean().item()

    def _loss(self, part: Part, samples: Tensor, generator: torch.Generator) -> Tensor:
        """Return gamma x contrast + (1 - gamma) x reconstruction of two views of networks (network,)."""
        layouts = part.layouts[samples]
        numbers, offsets = part.networks.numbers, part.networks.offsets[samples].repeat(2)
        if part.permuter is not None:
            # With one layout nothing but the number of samples is needed on the host, so no step waits for the device.
            is_one = len(part.networks.layouts) == 1
            on_host = np.zeros(len(samples), np.int64) if is_one else part.networks.layout_of[samples.cpu().numpy()]
            numbers, offsets = part.permuter.draw(np.tile(on_host, 2), numbers, offsets, generator)
        starts = part.windows.draw(layouts, generator)
        window = part.windows.take(layouts.repeat(2), numbers, offsets, starts.repeat(2))
        read = window
        if self.settings.noise > 0:
            drawn = torch.randn(window.values.shape, generator=generator, device=window.values.device)
            read = window._replace(values=window.values * (1 + self.settings.noise * drawn))
        latent, outputs = self.module(read, reconstruct=self.settings.gamma < 1)
        total = latent.new_zeros(())
        if self.settings.gamma > 0:
            total = total + self.settings.gamma * self._contrast(mean_code(latent, window.present))
        if outputs is not None:
            total = total + (1 - self.settings.gamma) * reconstruction(outputs, window)
        return total

    def _contrast(self, codes: Tensor) -> Tensor:
        """Return the contrast of mean codes (view x network, latent); in training over those of all processes."""
        pair = codes.unflatten(0, (2, -1))
        if self.module.training:
            pair = gather(pair.transpose(0, 1)).transpose(0, 1)
        first, second = self.module.head(pair.flatten(0, 1)).unflatten(0, (2, -1)).unbind(0)
        return losses.nt_xent(first, second, self.settings.temperature)
