"""Progress bars on terminals and in notebooks; nothing where no person watches."""

import sys
from typing import Any

from tqdm import tqdm


def progress_bar(*, label: str, unit: str, total: int | None = None, done: int = 0, shown: bool = True) -> tqdm:
    """Return a bar to be used in a `with` block; `update(n)` moves it.

    Args:
        label: what stands before the bar.
        unit: of what is counted; "B" for bytes, which are then shown as kB, MB, GB.
        total: how many there will be, if that is known.
        done: how many there are already.
        shown: whether there is a bar at all.
    """
    options: dict[str, Any] = {"desc": label, "unit": unit, "total": total, "initial": done, "unit_scale": unit == "B"}
    if "ipykernel" in sys.modules:  # a notebook, whose output is no terminal
        from tqdm.auto import tqdm as notebook_bar

        return notebook_bar(**options, disable=not shown)
    return tqdm(**options, disable=None if shown else True)
