"""A body as it arrives: counted, unpacked, digested, and never held as a whole; no Flask here."""

import hashlib
import zlib
from collections.abc import Callable, Iterator
from typing import Final

from smsapi.errors import BodyIncomplete, BodyTooLarge, MalformedRequest

MEBIBYTE: Final = 1024 * 1024
MOST_ON_THE_WIRE: Final = 64 * MEBIBYTE
# Of a body of JSON, which is held as a whole and takes ten times as much in memory.
MOST_JSON: Final = 8 * MEBIBYTE
# Packed, that much may become more: eight times as much is what texts are packed by. A bomb is refused here.
MOST_UNPACKED: Final = 8 * MOST_ON_THE_WIRE
# So little at a time that whoever watches the sender sees each step of one who is slow.
READ_BYTES: Final = 32 * 1024
_PIECE: Final = 64 * 1024
# Tools that pack in blocks make one member of 64 KiB; empty ones only make work.
_MOST_MEMBERS: Final = 20_000
_GZIP: Final = 16 + zlib.MAX_WBITS


class Body:
    """The bytes of one request, in pieces and once.

    ``read`` gives up to so many bytes of it, and nothing at its end. ``length`` is how many were announced.
    ``on_piece`` is called at each step, and may be set at any time. ``on_unpacked`` is told how many bytes there are
    so far, unpacked; what it raises ends the reading.
    """

    def __init__(
        self,
        read: Callable[[int], bytes],
        *,
        gzip: bool,
        length: int | None,
        most_unpacked: int,
        on_unpacked: Callable[[int], None] = lambda _count: None,
    ) -> None:
        self._read = read
        self._length = length
        self._most_unpacked = most_unpacked
        self._on_unpacked = on_unpacked
        self._wire = self._arrive()
        self._pieces = self._unpack() if gzip else self._wire
        self._digest = hashlib.sha256()
        self.on_piece: Callable[[], None] = lambda: None

    def __iter__(self) -> Iterator[bytes]:
        """Yield the body, unpacked.

        Raises:
            BodyTooLarge: more than 64 MiB came, or it is longer, unpacked, than is read.
            BodyIncomplete: it ended before its announced length.
            MalformedRequest: it is not what it is packed as.

        """
        unpacked = 0
        for piece in self._pieces:
            unpacked += len(piece)
            if unpacked > self._most_unpacked:
                raise BodyTooLarge(f"The body is longer than {self._most_unpacked // MEBIBYTE} MiB, unpacked.")
            self._on_unpacked(unpacked)
            self._digest.update(piece)
            self.on_piece()
            yield piece

    def exhaust(self) -> None:
        """Read what is left, for its digest."""
        for _ in self:
            pass

    def drain(self, *, is_enough: Callable[[], bool]) -> None:
        """Read on until it is enough, and forget it: a caller that is still sending would not see the answer."""
        for _ in self._wire:
            if is_enough():
                return

    def digest(self) -> bytes:
        """Return the SHA-256 of what was read so far, unpacked."""
        return self._digest.digest()

    def _arrive(self) -> Iterator[bytes]:
        arrived = 0
        while piece := self._read(READ_BYTES):
            arrived += len(piece)
            if arrived > MOST_ON_THE_WIRE:
                raise BodyTooLarge(f"The body is longer than {MOST_ON_THE_WIRE // MEBIBYTE} MiB.")
            yield piece
        # Cut off in the middle, it may look whole: what had come of it must not be taken for all of it.
        if self._length is not None and arrived != self._length:
            raise BodyIncomplete("The body ended before its announced length.")

    def _unpack(self) -> Iterator[bytes]:
        unpacker, members, begun = zlib.decompressobj(_GZIP), 1, False
        for arrived in self._wire:
            packed = arrived
            while packed:
                if unpacker.eof:
                    unpacker, members, begun = zlib.decompressobj(_GZIP), members + 1, False
                if members > _MOST_MEMBERS:
                    raise BodyTooLarge("The gzip has too many members.")
                if members > 1 and not begun:
                    # Files may be padded with zeros up to a whole block; anything else is a further member.
                    packed = packed.lstrip(b"\0")
                    if not packed:
                        break
                begun = True
                yield _unpacked(unpacker, packed)
                packed = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
        # What came in last may be taken in already, and not yet given out.
        while begun and not unpacker.eof:
            if not (rest := _unpacked(unpacker, b"")):
                raise MalformedRequest("The gzip is cut off.")
            yield rest


def _unpacked(unpacker: "zlib._Decompress", packed: bytes) -> bytes:
    try:
        return unpacker.decompress(packed, _PIECE)
    except zlib.error:
        raise MalformedRequest("The body is not gzip, although Content-Encoding says so.") from None
