"""diff: what two manifests or zoos answer differently, and whether models of one can be copied into the other."""

from dataclasses import dataclass

from zoo_gen.engine.given import ManifestLike, completed
from zoo_gen.engine.reuse import binding_differences
from zoo_gen.files.location import Folder, locate
from zoo_gen.manifest import Manifest, read_any
from zoo_gen.manifest.difference import Difference, differences
from zoo_gen.store.create import MANIFEST
from zoo_gen.zoo import Zoo


@dataclass(frozen=True)
class Comparison:
    """What two manifests answer differently; as text a line each, and what that means for their models."""

    differences: tuple[Difference, ...]  # each has a key, and what the first and the second manifest say of it
    binding: tuple[str, ...] | None  # the keys that change every model, so that none can be copied; None if unknown

    def __str__(self) -> str:
        lines = list(map(str, self.differences))
        if self.binding:
            lines.append(f"no model of one is one of the other: {', '.join(self.binding)}")
        elif self.binding is not None:
            lines.append(
                "models with the same hyper-parameters are the same: zoo-gen run --reuse or --grow copies them"
            )
        return "\n".join(lines)


def diff(first: ManifestLike | Zoo, second: ManifestLike | Zoo) -> Comparison:
    """Return what two manifests or zoos answer differently, and whether models of one can be copied into the other.

    Args:
        first: a zoo, its folder or URL, a manifest, its file, or the name of one that comes with the package.
        second: the same.

    Raises:
        ZooError: one of them is not there or is wrong.

    >>> import zoo_gen
    >>> print(zoo_gen.diff("zoos/tiny", "tetris_seed").differences[0])
    name: 'tiny', not 'tetris_seed'
    """
    one, other = _manifest(first), _manifest(second)
    binding = None  # what a converted zoo's models depend on, only its archive knows
    if one.generated is not None and other.generated is not None:
        binding = tuple(each.key for each in binding_differences(one.generated, other.generated))
    return Comparison(tuple(differences(one, other)), binding)


def _manifest(source: ManifestLike | Zoo) -> Manifest:
    if isinstance(source, Zoo):
        return source.manifest
    if isinstance(source, str | Folder) and (path := locate(source) / MANIFEST).exists():
        return read_any(path)
    return completed(source)
