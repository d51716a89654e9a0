"""The mode of MKL, which multiplies torch's matrices on x86: results that do not depend on where a matrix lies.

Left to itself MKL may take the first elements of a row one by one, up to a boundary of its registers, and the rest in
vectors (seen on AMD's Zen 4). A model in the middle of a population then has other last bits than alone. Its modes of
"conditional numerical reproducibility" (CNR) never do that. One is chosen by an environment variable, which MKL reads
at its first product and never again.
"""

import logging
import os
from functools import cache

_MODE = "MKL_CBWR"
_logger = logging.getLogger(__name__)


def choose_mode() -> None:
    """Choose the mode whose kernels are the fastest of this CPU, unless the environment names one.

    Processes that are started later inherit it.
    """
    os.environ.setdefault(_MODE, "AUTO")


@cache
def warn_if_products_depend_on_place() -> None:
    """Say in one line, once a process, that the mode was chosen too late; nothing if it was not, or is not needed."""
    if products_depend_on_place():
        _logger.warning(
            "torch multiplied matrices before zoo_gen was imported, too late for %s=AUTO: the last bits of a model may "
            "depend on the models beside it; import zoo_gen first, or set %s in the environment",
            *(_MODE, _MODE),
        )


def products_depend_on_place() -> bool:
    """Return whether a product has other bytes where its matrices begin at other multiples of four bytes."""
    import torch

    rows, columns, inner = 32, 7, 36
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(side, inner, generator=generator) for side in (rows, columns))
    products = []
    for offset in range(4):
        space = torch.empty(offset + left.numel())
        moved = space[offset:].view_as(left).copy_(left)
        products.append(moved @ right.T)
    return any(not torch.equal(products[0], other) for other in products[1:])
