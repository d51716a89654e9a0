"""Which keys of two manifests differ, as lines such as `training.epochs: 50, not 60`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from zoo_gen.manifest.protocol import Manifest

_LONGEST = 40  # characters of a value that a line shows
_MOST_SHOWN = 3


@dataclass(frozen=True)
class Difference:
    """One key that two manifests answer differently; None where one has no such key."""

    key: str
    first: object
    second: object

    def __str__(self) -> str:
        return f"{self.key}: {_short(self.first)}, not {_short(self.second)}"


def differences(first: Manifest, second: Manifest) -> list[Difference]:
    """Return the keys whose values differ, in the order of the file.

    >>> from zoo_gen.manifest import find_manifest, read_manifest
    >>> one, other = (read_manifest(find_manifest(name)) for name in ("mini_mnist_mlp", "mini_fashion_mlp"))
    >>> [difference.key for difference in differences(one, other)][:2]
    ['name', 'description']
    """
    flat = [_flat(manifest.model_dump(mode="json")) for manifest in (first, second)]
    keys = dict.fromkeys([*flat[0], *flat[1]])
    pairs = {key: (flat[0].get(key), flat[1].get(key)) for key in keys}
    return [Difference(key, *values) for key, values in pairs.items() if values[0] != values[1]]


def listed(different: Sequence[Difference]) -> str:
    """Return the first of some differences and how many more there are, as a line has room for."""
    more = f" and {len(different) - _MOST_SHOWN} more" if len(different) > _MOST_SHOWN else ""
    return "; ".join(map(str, different[:_MOST_SHOWN])) + more


def _flat(content: Mapping[str, object], place: str = "") -> dict[str, object]:
    """Return nested tables as one, dotted key -> value."""
    flat: dict[str, object] = {}
    for name, value in content.items():
        key = f"{place}{name}"
        flat |= _flat(value, f"{key}.") if isinstance(value, Mapping) else {key: value}
    return flat


def _short(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, list) and len(value) > 4:
        return f"[{value[0]!r}, ..., {value[-1]!r}] ({len(value):,} values)"
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 4]}...'"
