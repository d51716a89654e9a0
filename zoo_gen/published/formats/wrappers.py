"""What training code wraps around a state_dict: the dictionary of a checkpoint, and prefixes of all its keys.

A prefix is one of a wrapper only where every key has it: a network may well have a part that is called `module`.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from zoo_gen.errors import ZooError
from zoo_gen.published.archives.pickles import StandIn, is_tensor

Remark = Callable[[str], None]  # takes what became of something that is not kept

# The keys under which checkpoints of plain torch, Lightning, timm, accelerate, DeepSpeed and tutorials hold weights.
STATE_KEYS = (
    "model_state_dict",
    "model_state",
    "state_dict",
    "model",
    "net",
    "network",
    "module",
    "weights",
    "params",
    "state_dict_ema",
    "model_ema",
    "ema",
)
# What lies beside them and holds no weights, or only other copies.
_BESIDE = re.compile(
    r".*(optim|sched|scaler|callback|loop|hparam|hyper_parameter|config|args|metric|history|rng|ema|averaged|swa).*",
    re.IGNORECASE,
)
# DataParallel and DistributedDataParallel, AveragedModel; Lightning's strategies; Opacus; modules of one's own around a
# network; copies of a moving average.
PREFIXES = (
    "module",
    "_module",
    "_orig_mod",
    "_forward_module",
    "_fsdp_wrapped_module",
    "_checkpoint_wrapped_module",
    "model",
    "net",
    "network",
    "student",
    "ema_model",
    "averaged_model",
)
# Names that no network gives to a part of its own, so that they are wrappers wherever they stand.
_MARKS = ("_orig_mod", "_forward_module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
_DEEPEST = 5


def unwrapped(tree: Any, *, where: str, keys: tuple[str, ...] = STATE_KEYS, remark: Remark) -> Mapping[Any, Any]:
    """Return the state_dict inside of what a checkpoint holds.

    Args:
        tree: what was read.
        where: how messages name it.
        keys: that may hold the state_dict, the likeliest first.
        remark: is told which other state_dicts the checkpoint holds.
    """
    for _ in range(_DEEPEST):
        if not isinstance(tree, Mapping):
            what = tree.pickled_name if isinstance(tree, StandIn) else type(tree).__name__
            raise ZooError(f"{where}: holds {what}; expected a state_dict: torch.save(model.state_dict(), FILE)")
        inside = [key for key, value in tree.items() if isinstance(key, str) and holds_state(value)]
        if not inside:
            return tree
        chosen = next((key for key in keys if key in inside), "")
        if not chosen and any(is_tensor(value) and value.ndim for value in tree.values()):
            return tree  # it is a state_dict, with a dictionary among its tensors that the caller judges
        likely = [key for key in inside if not _BESIDE.fullmatch(key)] or inside
        if not chosen and len(likely) > 1:
            raise ZooError(f"{where}: holds several state_dicts ({', '.join(likely[:5])}); expected one alone")
        chosen = chosen or likely[0]
        if others := [str(key) for key in tree if key != chosen]:
            remark(f"only its {chosen} is read, and not its {', '.join(others[:8])}{', ...' * (len(others) > 8)}")
        tree = tree[chosen]
    raise ZooError(f"{where}: holds dictionaries in dictionaries; expected a state_dict")


def holds_state(value: Any, depth: int = _DEEPEST) -> bool:
    """Return whether a value is a state_dict, or a dictionary with one in it."""
    if not isinstance(value, Mapping) or not depth:
        return False
    named = [inner for key, inner in value.items() if isinstance(key, str)]
    return any(map(is_tensor, named)) or any(holds_state(inner, depth - 1) for inner in named)


def without_prefixes(names: list[str]) -> tuple[list[str], str]:
    """Return the names of all tensors of a state without what wrappers put before them, and what that was.

    >>> without_prefixes(["module._orig_mod.fc.weight", "module._orig_mod.fc.bias"])
    (['fc.weight', 'fc.bias'], 'module._orig_mod.')
    >>> without_prefixes(["weight", "module.weight"])
    (['weight', 'module.weight'], '')
    """
    removed = ""
    while names:
        first = names[0].partition(".")[0]
        if first not in PREFIXES or not all(name.startswith(f"{first}.") and name != f"{first}." for name in names):
            break
        names, removed = [name.removeprefix(f"{first}.") for name in names], f"{removed}{first}."
    inner = [".".join(part for part in name.split(".") if part not in _MARKS) for name in names]
    if inner != names and all(inner) and len(set(inner)) == len(inner):
        marks = [mark for mark in _MARKS if any(mark in name.split(".") for name in names)]
        return inner, ", ".join(filter(None, [removed, *(f"{mark}." for mark in marks)]))
    return names, removed
