"""Remote: a folder or a file in an object store (s3://bucket/zoo, hf://org/zoo).

It has those methods of `pathlib.Path` that a zoo needs, under the same names, so that only what concerns disks alone
(flushing, renaming) asks which of both it has. An object appears whole or not at all and is durable when its writing
returns, so that nothing there has a temporary name.
"""

from dataclasses import dataclass
from typing import Any

from zoo_gen.errors import ZooError, one_line
from zoo_gen.files.url_client import check_writable, file_system, one_line_errors


@dataclass(frozen=True)
class Remote:
    """A folder or a file at a URL."""

    url: str  # without a slash at its end

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str) -> "Remote":
        return Remote(f"{self.url}/{name}")

    @property
    def name(self) -> str:
        """What follows the last slash."""
        return self.url.rpartition("/")[2]

    @property
    def parent(self) -> "Remote":
        """The folder that it is in."""
        return Remote(self.url.rpartition("/")[0])

    def absolute(self) -> "Remote":
        """Return itself: a URL is the same from everywhere."""
        return self

    resolve = absolute

    def exists(self) -> bool:
        """Return whether there is a file, or a folder with a file in it."""
        return self._kind() is not None

    def is_file(self) -> bool:
        """Return whether there is a file."""
        return self._kind() == "file"

    def is_dir(self) -> bool:
        """Return whether there is a folder with a file in it."""
        return self._kind() == "directory"

    def read_bytes(self) -> bytes:
        """Return the content of a file."""
        return bytes(self._ask("cat_file"))

    def read_text(self, encoding: str = "utf-8") -> str:
        """Return the content of a file as text."""
        return self.read_bytes().decode(encoding)

    def write_bytes(self, content: bytes) -> None:
        """Write a file; when this returns it is whole and durable."""
        self._write(content)

    def create(self, content: bytes) -> bool:
        """Write a file unless there is one; return whether it was written.

        Of several that do it at once one wins, where the store knows conditional writing, as S3 does.
        """
        try:
            self._write(content, mode="create")
        except FileExistsError:
            return False
        return True

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove a file."""
        try:
            self._ask("rm_file")
        except FileNotFoundError:
            if not missing_ok:
                raise

    def check_writable(self) -> None:
        """Refuse a folder on the Hub or in a bucket that is not there, before hours of work for it; nothing is written.

        Raises:
            ZooError: it is one, or the store cannot be reached.
        """
        check_writable(self.url)
        try:
            self._ask("ls")
        except NotADirectoryError:
            return
        except FileNotFoundError as error:  # a folder appears with its first file; the cause is the store's own error
            if type(error.__cause__).__name__ == "NoSuchBucket":
                raise self._no_bucket(error) from None

    def _write(self, content: bytes, **options: Any) -> None:
        check_writable(self.url)
        try:
            self._ask("pipe_file", content, **options)
        except FileNotFoundError as error:  # a store makes folders, and no bucket
            raise self._no_bucket(error) from None

    def _no_bucket(self, error: FileNotFoundError) -> ZooError:
        return ZooError(f"{self.url}: {one_line(error)}; expected a bucket that is there")

    def _kind(self) -> str | None:
        # fsspec's own exists() and isdir() take any failure for a no.
        try:
            return str(self._ask("info")["type"])
        except FileNotFoundError:
            return None

    def _ask(self, action: str, *arguments: Any, **options: Any) -> Any:
        with one_line_errors(self.url):
            fs, path = file_system(self.url)
            return getattr(fs, action)(path, *arguments, **options)
