"""What a batch is uploaded from: a file or a pipe, read once, packed, and kept on disk while it may be sent again."""

import gzip
import hashlib
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import IO, Any, Final

from smsapi.batches.arriving import MOST_ON_THE_WIRE, MOST_UNPACKED

_PIECE_BYTES: Final = 256 * 1024
_IN_MEMORY_BYTES: Final = 1024 * 1024
# Less is not worth it, and neither is what hardly shrinks.
_LEAST_BYTES: Final = 4 * 1024
_SHRINKS_TO: Final = 0.9
# Of nine: telephone numbers do not become much smaller by trying harder.
_LEVEL: Final = 4


class TooLarge(Exception):
    """There is more of it than the service takes in one batch."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """The bytes that go over the wire, as often as it takes; ``digest`` is of them before they were packed."""

    file: IO[bytes]
    size: int
    is_packed: bool
    digest: str

    def close(self) -> None:
        """Give back the room that it takes."""
        self.file.close()

    def body(self, on_read: Callable[[int], None]) -> "Body":
        """Return a body from the beginning on; only one at a time is of use."""
        self.file.seek(0)
        return Body(self.file, self.size, on_read)


class Body:
    """The parcel as ``requests`` reads it; ``on_read`` is told how many bytes were read so far."""

    def __init__(self, file: IO[bytes], size: int, on_read: Callable[[int], None]) -> None:
        self._file = file
        self._size = size
        self._on_read = on_read

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        """Yield its pieces. It is here because ``requests`` takes nothing else for a stream."""
        return iter(lambda: self.read(_PIECE_BYTES), b"")

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes."""
        piece = self._file.read(size)
        self._on_read(self._file.tell())
        return piece


def pack(source: IO[bytes], on_read: Callable[[int], None]) -> Parcel:
    """Read ``source`` to its end, and pack it where that pays; ``on_read`` is told how many bytes were read so far.

    Raises:
        TooLarge: it is more than the service takes; the rest is not read.
        OSError: it cannot be read, or there is no room for it.

    """
    # It has no name that could stay behind.
    file: Any = tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES)  # noqa: SIM115 - it is the parcel's from here on
    try:
        return _pack_into(file, source, on_read)
    except BaseException:
        file.close()
        raise


def _pack_into(file: Any, source: IO[bytes], on_read: Callable[[int], None]) -> Parcel:
    # What a pipe has at the moment, for its writer may be slow.
    read = getattr(source, "read1", source.read)
    pieces = iter(partial(read, _PIECE_BYTES), b"")
    first = next(pieces, b"")
    is_packed = _pays(first)
    target: Any = gzip.GzipFile(fileobj=file, mode="wb", compresslevel=_LEVEL, mtime=0) if is_packed else file
    digest, size = hashlib.sha256(), 0
    for piece in chain([first], pieces):
        digest.update(piece)
        target.write(piece)
        size += len(piece)
        on_read(size)
        _check(size, file.tell())
    if is_packed:
        target.close()
    _check(size, file.tell())
    return Parcel(file, file.tell(), is_packed, digest.hexdigest())


def _pays(sample: bytes) -> bool:
    return len(sample) >= _LEAST_BYTES and len(zlib.compress(sample, _LEVEL)) < len(sample) * _SHRINKS_TO


def _check(size: int, packed: int) -> None:
    # What the service takes. A pipe that never ends is noticed by it.
    if packed > MOST_ON_THE_WIRE or size > MOST_UNPACKED:
        raise TooLarge
