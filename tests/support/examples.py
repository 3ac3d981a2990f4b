"""Sizes of tests: small data, few examples and always the same; much, many and at random for ``make test-all``.

The variable SMSAPI_TEST_EXAMPLES multiplies how many examples hypothesis makes up; above 1 they are drawn at random.
"""

import os
import zlib
from typing import Final, TypeVar

from hypothesis import HealthCheck, settings

_T = TypeVar("_T")
FACTOR: Final = int(os.environ.get("SMSAPI_TEST_EXAMPLES", "1"))


def many(count: int) -> int:
    """Return how many examples to make up where ``count`` are enough for an ordinary run."""
    return count * FACTOR


def sized(ordinary: _T, full: _T) -> _T:
    """Return how much data to use: what shows the behaviour in an ordinary run, and ``full`` in ``make test-all``."""
    return ordinary if FACTOR == 1 else full


def is_on_its_store(nodeid: str, store: str, *, is_marked: bool) -> bool:
    """Return whether a test of both stores runs on this one (``sqlite`` or ``postgresql``).

    In ``make test`` it runs on one of them, always the same, about half of the tests on each; it runs on both where
    SMSAPI_TEST_STORES is ``both`` (as in ``.ci/run`` and ``make test-all``), or where it is marked ``both_stores``,
    which is for what each store does in its own way.
    """
    if is_marked or FACTOR > 1 or os.environ.get("SMSAPI_TEST_STORES") == "both":
        return True
    name = nodeid.replace(store, "")
    return zlib.crc32(name.encode()) % 2 == (store == "sqlite")


def load_profile() -> None:
    """Have all properties run so, but where one says otherwise.

    There is no deadline and no check of how fast examples are made: on a busy machine both would fail by chance.
    """
    settings.register_profile(
        "suite",
        max_examples=many(40),
        derandomize=FACTOR == 1,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    settings.load_profile("suite")
