"""The networks of SANE: every token of a window becomes a code, and codes become tokens again.

Blocks are those of hyper-representations. A token's position in its network is four numbers, whose sines and cosines
are mapped to the width, so that deeper and wider networks than those of the training have codes too.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from zoo_bench.encoders.hyper_representation.network import Block, FilledLinear, Norm, Update, projection_head
from zoo_bench.encoders.sane.settings import Settings
from zoo_bench.encoders.sane.windows import Window
from zoo_bench.encoders.sne.network import sinusoid
from zoo_gen.architecture.tokens import POSITIONS

CODE = 32  # sines and cosines of one number of a position


class Stack(nn.Module):
    """Tokens with codes of their positions through transformer blocks and a last norm."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.positions = nn.Linear(len(POSITIONS) * CODE, settings.width)
        self.blocks = nn.ModuleList(
            Block(settings.width, settings.heads, settings.feedforward, settings.dropout)
            for _ in range(settings.blocks)
        )
        self.norm = Norm(settings.width)

    def forward(self, tokens: Tensor, codes: Tensor, present: Tensor | None) -> Tensor:
        """Transform tokens (network, token, width), of which `present` says which are there; None: all.

        Args:
            tokens: of windows.
            codes: of their positions (network, token, code).
            present: bool (network, token).
        """
        tokens = tokens + self.positions(codes).to(tokens.dtype)
        update: Update | None = None
        for block in self.blocks:
            tokens, update = block(tokens, update, present=present)
        _, normed = self.norm(tokens, update)
        return normed


class SequenceAutoencoder(nn.Module):
    """Encoder and decoder of windows of tokens; the head belongs to the contrast alone."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.embed = FilledLinear(settings.token, settings.width)
        self.encoder = Stack(settings)
        self.compress = nn.Linear(settings.width, settings.latent)
        self.expand = nn.Linear(settings.latent, settings.width)
        self.decoder = Stack(settings)
        self.output = FilledLinear(settings.width, settings.token)
        self.head = projection_head(
            settings.latent, layers=settings.head_layers, width=settings.head_width, output=settings.head_output
        )

    def forward(self, window: Window, *, reconstruct: bool) -> tuple[Tensor, Tensor | None]:
        """Return the codes (network, token, latent) of windows, and if asked for their tokens reconstructed.

        Codes are above 0: the mean of codes with signs would tell the mean of weights and not how large they are.
        """
        codes = sinusoid(window.positions, CODE).flatten(2)
        values = window.values.masked_fill(~window.mask, 0.0)  # whatever stands in padding
        latent = functional.softplus(self.compress(self.encoder(self.embed(values), codes, window.present)).float())
        if not reconstruct:
            return latent, None
        return latent, self.output(self.decoder(self.expand(latent), codes, window.present)).float()


def mean_code(latent: Tensor, present: Tensor | None) -> Tensor:
    """Return the mean over the tokens that are there, (network, latent), of codes (network, token, latent)."""
    if present is None:
        return latent.mean(dim=1)
    weights = present.to(latent.dtype).unsqueeze(2)
    return (latent * weights).sum(dim=1) / weights.sum(dim=1)


def reconstruction(outputs: Tensor, window: Window) -> Tensor:
    """Return the mean squared error of tokens (network, token, size) over the numbers that stand there."""
    errors = (outputs - window.values).square().masked_fill(~window.mask, 0.0)
    return errors.sum() / window.mask.sum().to(torch.float32)
