"""The client of a URL: fsspec's file system with our options, and what it raises as one line.

Listings are not cached, because other runs write.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from zoo_gen.errors import ZooError, one_line
from zoo_gen.files import hub

# These are answers of a store; every other error is a failure of the network or the store.
_ANSWERS = (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError)
_OPTIONS: dict[str, dict[str, Any]] = {
    # Requests that are refused as too many, or not answered, are repeated, each time after a longer pause.
    "s3": {"config_kwargs": {"retries": {"mode": "legacy", "max_attempts": 6}}},
    # The client reads ahead by blocks of 5 MB unless told otherwise, and what follows is never needed here.
    "hf": {"block_size": 2**10},
}


def check_writable(url: str) -> None:
    """Refuse to write where every file would be a commit.

    Raises:
        ZooError: the URL is on the Hub.
    """
    if hub.is_address(url):
        raise ZooError(
            f"{url}: zoos cannot be written on the Hub file by file; expected a local folder, then zoo-gen push"
        )


def _options(url: str) -> dict[str, Any]:
    """Return the options of a URL's client; fsspec's own configuration takes precedence."""
    from fsspec.config import conf

    protocol = url.partition("://")[0]
    endpoint = {"endpoint": hub.endpoint()} if protocol == "hf" else {}
    return {"use_listings_cache": False, **_OPTIONS.get(protocol, {}), **endpoint, **conf.get(protocol, {})}


def file_system(url: str) -> tuple[Any, str]:
    """Return the file system of a URL, which fsspec caches, and the path in it."""
    from fsspec.core import url_to_fs

    fs, path = url_to_fs(url, **_options(url))
    if hub.is_address(url):
        hub.share_pinned_commits(fs)
    return fs, path


def async_file_system(url: str) -> tuple[Any, str]:
    """Return what `file_system` does, with coroutines."""
    fs, path = file_system(url)
    if not fs.async_impl:
        from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper

        fs = AsyncFileSystemWrapper(fs, asynchronous=True)
    return fs, path


@contextmanager
def one_line_errors(url: str) -> Iterator[None]:
    """Turn what a store's client raises into one line; answers such as FileNotFoundError stay as they are."""
    try:
        yield
    except (*_ANSWERS, ZooError):
        raise
    except ModuleNotFoundError as error:
        raise ZooError(f"{url}: {one_line(error)}; expected pip install 'zoo-gen[remote]'") from None
    except ImportError as error:  # says which client the store needs, of which ours is that of S3 alone
        wanted = "pip install 'zoo-gen[remote]'" if url.startswith("s3:") else "that package"
        raise ZooError(f"{url}: {one_line(error)}; expected {wanted}") from None
    except Exception as error:  # each store's client has its own
        if str(error).startswith("Protocol not known"):
            raise ZooError(f"{url}: {error}; expected s3://, hf://, https:// or another that fsspec knows") from None
        if "not satisfiable" in str(error):  # a file that is too short, which its reader calls damaged
            raise
        raise ZooError(
            f"{url}: the store does not answer as expected ({one_line(error)}); what is complete is kept"
        ) from error
