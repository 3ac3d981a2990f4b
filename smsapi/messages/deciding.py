"""A decision of a caller about one message of its own, answered once; for the views that take one."""

from collections.abc import Callable
from typing import Any

from flask.wrappers import Response
from sqlalchemy import Connection

from smsapi.auth.guard import caller
from smsapi.deps import Deps
from smsapi.ids import show_id
from smsapi.messages.models import Message
from smsapi.messages.present import present_message
from smsapi.messages.store import get_message_for, hold_message
from smsapi.web.answers import Answer, answer
from smsapi.web.context import deps
from smsapi.web.once import answer_once
from smsapi.web.paths import id_in_path


def decide(message_id: str, decision: Callable[[Deps, Connection, Message], Message]) -> Response:
    """Answer once with the caller's message as the decision leaves it; it is locked while it is made.

    Raises:
        NotFound: the caller has no such message.

    """
    world, who = deps(), caller()
    with world.database.read() as connection:
        # Not within what is answered once: what a test key does not find is not lost to the client's live keys.
        found = get_message_for(connection, who, id_in_path("msg", message_id, what="message"))

    def act(connection: Connection) -> Answer:
        return answer(present_message(decision(world, connection, hold_message(connection, found.id))))

    return answer_once(who.owner, act)


def by_caller() -> dict[str, Any]:
    """Return who decides, for the event of the decision."""
    return {"by": "caller", "key_id": show_id("key", caller().key.id)}
