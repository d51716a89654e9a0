"""Where zoos are from: trained here, or published; and how the names of published zoos tell them apart from ours.

The registry of published zoos is zoo_gen's; this is the one door through which benchmarks ask it.
"""

from collections.abc import Collection
from typing import Any, Literal

from zoo_gen.published.sources.registry import PUBLISHED, by_population, published_name
from zoo_gen.zoo import JOIN

ZoosFrom = Literal["regenerated", "published"]

__all__ = ["PUBLISHED", "ZoosFrom", "any_published", "published_names"]


def published_names(names: Any) -> Any:
    """Return names, or lists of them, as those of published zoos; a population that nobody published stays as it is.

    >>> from zoo_bench.protocol.origins import published_names
    >>> published_names(["small_cnn_zoo_mnist", "digits_hyp"])
    ('small_cnn_zoo_mnist_published', 'digits_hyp')
    """
    if isinstance(names, list | tuple):
        known = by_population()
        return tuple(_published(name, known) if isinstance(name, str) else published_names(name) for name in names)
    return names


def _published(name: str, known: Collection[str]) -> str:
    """Return the name of a zoo, or of several read as one, with those that somebody published as published ones."""
    return JOIN.join(published_name(each) if each in known else each for each in name.split(JOIN))


def any_published(zoos: tuple[str, ...]) -> bool:
    """Say whether somebody published one of these zoos, by the names that ours have."""
    return not {each for name in zoos for each in name.split(JOIN)}.isdisjoint(by_population())
