"""The service's dependencies for a command that works on the store alone: nothing asks Plivo, nothing signs a token."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from smsapi.app import build_deps
from smsapi.cli.demo import operator_settings
from smsapi.db import Database
from smsapi.deps import Deps
from smsapi.timekeeping import set_clock_of

# So that the database's setting is enough.
_NEVER_USED: Final[dict[str, Any]] = {"plivo_auth_id": "MA" + "0" * 18, "plivo_auth_token": "-", "jwt_secret": "-" * 32}


@contextmanager
def working_on(store: Database) -> Iterator[Deps]:
    """Build the dependencies on this store, for the block. Raises :class:`~smsapi.errors.StoreUnavailable`."""
    world = build_deps(operator_settings(**_NEVER_USED), database=store, clock=set_clock_of(store))
    try:
        yield world
    finally:
        world.executor.shutdown()
