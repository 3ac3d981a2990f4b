"""Places to log to that take no line: the reader is gone, the disk is full, nobody reads."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

KINDS = ("reader_gone", "disk_full", "nobody_reads")


@contextmanager
def dead_log(kind: str) -> Iterator[int]:
    """Give a descriptor to write to that takes nothing."""
    if kind == "disk_full":
        opened = [os.open("/dev/full", os.O_WRONLY)]
    else:
        reader, writer = os.pipe()
        opened = [writer, reader]
        if kind == "reader_gone":
            os.close(opened.pop())
        else:
            _fill(writer)
    try:
        yield opened[0]
    finally:
        for fd in opened:
            os.close(fd)


def _fill(writer: int) -> None:
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, b"x" * 4096)
    os.set_blocking(writer, True)
