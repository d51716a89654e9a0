"""The global random generators of Python, numpy and torch: seeded for a fit, and given back to the caller as before."""

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral

import numpy as np

from zoo_gen.errors import ZooError, shown


def check_seed(seed: int) -> None:
    """Refuse a seed that not all generators take.

    Raises:
        ZooError: it is one.
    """
    if not isinstance(seed, Integral) or not 0 <= seed < 2**32:
        raise ZooError(f"seed {shown(seed)}: expected a whole number from 0 to {2**32 - 1}")


def seed_global_generators(seed: int) -> None:
    """Seed what an encoder may draw from without a generator of its own.

    Processes are forks of one: without it all fits of a run would draw the same, whatever the seed, and another run
    would draw others.
    """
    random.seed(seed)
    np.random.seed(seed)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)


@contextmanager
def restored_global_generators() -> Iterator[None]:
    """Give the global generators back as they were, whatever an encoder inside draws or seeds in the caller's process.

    Torch, where it is imported inside, starts from a seed of chance, as it does when it is imported.
    """
    of_python, of_numpy, torch = random.getstate(), np.random.get_state(), sys.modules.get("torch")
    of_cpu = None if torch is None else torch.get_rng_state()
    of_gpus = torch.cuda.get_rng_state_all() if torch is not None and torch.cuda.is_initialized() else None
    try:
        yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)
        if torch is not None:
            torch.set_rng_state(of_cpu)
            if of_gpus is not None:
                torch.cuda.set_rng_state_all(of_gpus)
            else:  # GPUs that were not in use would have begun from the caller's seed
                torch.cuda.manual_seed_all(torch.initial_seed())
        elif "torch" in sys.modules:
            sys.modules["torch"].seed()
