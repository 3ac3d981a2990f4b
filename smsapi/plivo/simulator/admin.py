"""The simulator's own routes, all under ``/_``: what was taken, faults to order, a text to receive."""

from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any

import orjson

from smsapi.clock import Clock, read_rfc3339, rfc3339
from smsapi.plivo.simulator.callbacks import Callback, Callbacks
from smsapi.plivo.simulator.faults import Faults, parse_rules
from smsapi.plivo.simulator.records import inbound_fields
from smsapi.plivo.simulator.state import Store, Taken, new_uuid
from smsapi.plivo.simulator.validation import clean_number, is_web_address
from smsapi.plivo.simulator.wire import Reply, Request, json_reply


class Admin:
    """Answers the routes under ``/_``; they take no credentials, so the simulator belongs on a private address."""

    def __init__(self, *, store: Store, faults: Faults, callbacks: Callbacks, clock: Clock) -> None:
        self._store = store
        self._faults = faults
        self._callbacks = callbacks
        self._clock = clock
        self._routes: dict[tuple[str, str], Callable[[Request], Reply]] = {
            ("GET", "/_health"): self._health,
            ("GET", "/_taken"): self._taken,
            ("DELETE", "/_taken"): self._forget_taken,
            ("GET", "/_faults"): self._list_faults,
            ("POST", "/_faults"): self._set_faults,
            ("DELETE", "/_faults"): self._clear_faults,
            ("POST", "/_inbound"): self._inbound,
        }

    def answer(self, request: Request) -> Reply:
        """Return the reply to the request; what it cannot read is 400 with a sentence."""
        route = self._routes.get((request.method, request.path))
        if route is None:
            return json_reply(404, {"error": "not found"})
        try:
            return route(request)
        except ValueError as error:
            return json_reply(400, {"error": str(error)})

    def _health(self, _: Request) -> Reply:
        return json_reply(200, {"status": "ok", "pending_callbacks": self._callbacks.pending})

    def _taken(self, request: Request) -> Reply:
        to = request.query.get("to")
        number = None if to is None else clean_number(to)
        if "count" in request.query:
            numbers, more_than_once = self._store.count_numbers()
            counts = {"count": self._store.count(number), "numbers": numbers, "numbers_texted_twice": more_than_once}
            return json_reply(200, counts)
        messages = self._store.taken(number)
        if "since" in request.query:
            since = _parse_moment(request.query["since"])
            messages = [message for message in messages if message.taken_at >= since]
        now = self._clock.now()
        content = {
            "count": len(messages),
            "messages": [_shown(message, now) for message in messages],
            "texts_by_number": self._store.texts_by_number(),
        }
        return json_reply(200, content)

    def _forget_taken(self, _: Request) -> Reply:
        self._callbacks.forget()
        self._store.reset()
        return json_reply(200, {"count": 0})

    def _list_faults(self, _: Request) -> Reply:
        return json_reply(200, self._faults.current())

    def _set_faults(self, request: Request) -> Reply:
        self._faults.replace(parse_rules(orjson.loads(request.body)))
        return self._list_faults(request)

    def _clear_faults(self, request: Request) -> Reply:
        self._faults.replace([])
        return self._list_faults(request)

    def _inbound(self, request: Request) -> Reply:
        content = orjson.loads(request.body)
        sender, to, text, url = (_text_of(content, name) for name in ("from", "to", "text", "url"))
        if not is_web_address(url):
            raise ValueError("url is an http or https URL.")
        method = content.get("method", "POST")
        if method not in {"GET", "POST"}:
            raise ValueError("method is GET or POST.")
        message_uuid = new_uuid()
        fields = partial(inbound_fields, message_uuid, clean_number(sender), clean_number(to), text)
        self._callbacks.schedule(self._clock.now(), Callback(url, method, fields))
        return json_reply(202, {"message_uuid": message_uuid})


def _shown(message: Taken, now: datetime) -> dict[str, Any]:
    state, error_code, _ = message.progress(now)
    return {
        "message_uuid": message.message_uuid,
        "from": message.sender,
        "to": message.to,
        "text": message.text,
        "url": message.url,
        "taken_at": rfc3339(message.taken_at),
        "state": state,
        "error_code": error_code,
        "units": message.units,
    }


def _text_of(content: Any, name: str) -> str:
    value = content.get(name) if isinstance(content, dict) else None
    if not isinstance(value, str):
        raise ValueError(f"{name} is a required string.")  # noqa: TRY004 - bad data, whatever its type
    return value


def _parse_moment(value: str) -> datetime:
    # A plus sign that nobody escaped arrives as a space.
    return read_rfc3339(value.replace(" ", "+"))
