"""Ids and phone numbers in paths and queries, as callers write them: one reader of each for all routes."""

from uuid import UUID

from smsapi.errors import InvalidInput, NotFound
from smsapi.ids import read_id
from smsapi.sms.phone import InvalidNumber, parse_number, unwrap_number


def id_in_path(prefix: str, shown: str, *, what: str) -> UUID:
    """Return the UUID of an id in a path; raise :class:`NotFound`, as for an unknown ``what``, where it is no id."""
    found = read_id(prefix, shown)
    if found is None:
        raise NotFound(f"There is no such {what}.")
    return found


def number_in_path(shown: str) -> str:
    """Return the number of a path in E.164; raise :class:`InvalidInput` at ``/number`` where it is none.

    A number has one spelling: without its plus sign it is refused, not taken for one that nobody knows.
    """
    try:
        return parse_number(unwrap_number(shown)).e164
    except InvalidNumber as error:
        raise InvalidInput.at("/number", str(error)) from None
