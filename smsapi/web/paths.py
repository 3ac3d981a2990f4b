"""Ids and phone numbers in paths and queries, as callers write them: one reader of each for all routes."""

from uuid import UUID

from smsapi.errors import InvalidInput, NotFound
from smsapi.ids import read_id
from smsapi.sms.phone import InvalidNumber, read_number, unwrap_number


def id_in_path(prefix: str, shown: str, *, what: str) -> UUID:
    """Return the UUID of an id in a path; raise :class:`NotFound`, as for an unknown ``what``, where it is no id."""
    found = read_id(prefix, shown)
    if found is None:
        raise NotFound(f"There is no such {what}.")
    return found


def number_in_path(shown: str) -> str:
    """Return the number of a path in its canonical form; raise :class:`InvalidInput` at ``/number`` where it is none.

    One that its plan does not know is a number all the same: its owner may have texted us. Without its plus sign it is
    refused, not taken for another.
    """
    try:
        return read_number(unwrap_number(shown))
    except InvalidNumber as error:
        raise InvalidInput.at("/number", str(error)) from None
