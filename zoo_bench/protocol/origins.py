"""Where zoos are from: trained here, or published; and how the names of published zoos tell them apart from ours.

The registry of published zoos is zoo_gen's; this is the one door through which benchmarks ask it.
"""

from typing import Any, Literal

from zoo_gen.published.sources.registry import PUBLISHED, by_population, published_name

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
        return tuple(published_name(name) if name in known else name for name in map(published_names, names))
    return names


def any_published(zoos: tuple[str, ...]) -> bool:
    """Say whether somebody published one of these zoos, by the names that ours have."""
    return not set(zoos).isdisjoint(by_population())
