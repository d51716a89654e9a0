"""Hyper-representations (Schürholt et al., 2021; Zenodo 5645138): .pt dumps whose classes nobody else has."""

from zoo_gen.published.archives.archive import Archive
from zoo_gen.published.formats import dumps
from zoo_gen.published.reading import Reading, Request


def read(archive: Archive, request: Request) -> Reading:
    """Return what the dump holds; see `dumps`.

    Raises:
        ZooError: it is not as published.
    """
    return dumps.read(archive, request, format="hyper_representations")
