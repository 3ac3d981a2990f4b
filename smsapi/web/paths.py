"""Ids in paths, as callers write them."""

from uuid import UUID

from smsapi.errors import NotFound
from smsapi.ids import read_id


def id_in_path(prefix: str, shown: str, *, what: str) -> UUID:
    """Return the UUID of an id in a path; raise :class:`NotFound`, as for an unknown ``what``, where it is no id."""
    found = read_id(prefix, shown)
    if found is None:
        raise NotFound(f"There is no such {what}.")
    return found
