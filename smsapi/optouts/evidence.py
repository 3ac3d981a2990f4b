"""Evidence of the ledger, and to whom it is shown.

A line of the trail names what proves it: a text that came in, a message, an API key. Each of these belongs to one
client, and so does the line's evidence. What a sender's recipients said stops every client of that sender; what they
wrote, to whom, and who took it back and why, is not theirs to read.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, FromClause, Text, Uuid, column, select, table

from smsapi.auth.models import api_keys
from smsapi.ids import read_id
from smsapi.messages.models import messages

# What this package needs to know of a table that is declared above it.
inbound_texts: Final = table(
    "inbound_messages", column("id", Uuid()), column("client_id", Uuid()), column("from_number", Text())
)
# Where the owner of each proof is found, by its name in the evidence, and how its ids begin.
_OWNERS: Final[Mapping[str, tuple[str, FromClause]]] = {
    "inbound_id": ("inb", inbound_texts),
    "message_id": ("msg", messages),
    "key_id": ("key", api_keys),
}
# What is told to every client that the line concerns: one of our own words, and never what was written.
_OPEN: Final = frozenset({"keyword"})
_AT_ONCE: Final = 500


def shown_to(
    connection: Connection, client_id: UUID, evidence: Sequence[Mapping[str, Any]]
) -> Sequence[dict[str, Any]]:
    """Return each piece of evidence as this client may read it: whole where all that it names is the client's own.

    Of any other, and of what names nothing, only the keyword is left.
    """
    own = {name: _own_ids(connection, client_id, evidence, name) for name in _OWNERS}
    return [_shown(each, own) for each in evidence]


def _shown(evidence: Mapping[str, Any], own: Mapping[str, frozenset[str]]) -> dict[str, Any]:
    named = [name for name in _OWNERS if name in evidence]
    if named and all(evidence[name] in own[name] for name in named):
        return dict(evidence)
    return {name: value for name, value in evidence.items() if name in _OPEN}


def _own_ids(
    connection: Connection, client_id: UUID, evidence: Iterable[Mapping[str, Any]], name: str
) -> frozenset[str]:
    prefix, rows = _OWNERS[name]
    shown = {each[name] for each in evidence if name in each}
    asked = {found: each for each in shown if (found := read_id(prefix, each)) is not None}
    ids = sorted(asked)
    own: set[str] = set()
    for start in range(0, len(ids), _AT_ONCE):
        these = rows.c.id.in_(ids[start : start + _AT_ONCE])
        query = select(rows.c.id).where(these, rows.c.client_id == client_id)
        own.update(asked[found] for found in connection.execute(query).scalars())
    return frozenset(own)
