"""The Message API's routes (send, get, list), and that of the account."""

import base64
import binascii
import hmac
import re
from collections.abc import Callable, Mapping
from functools import partial
from urllib.parse import urlencode

from smsapi.clock import Clock
from smsapi.plivo.magic import Answer, Behaviour, behaviour_of
from smsapi.plivo.simulator.callbacks import Callback, Callbacks
from smsapi.plivo.simulator.faults import Faults, Rule
from smsapi.plivo.simulator.records import MAXIMUM_PAGE, message_record, parse_filters, receipt_fields
from smsapi.plivo.simulator.state import CallLimit, Store, Taken, new_uuid
from smsapi.plivo.simulator.validation import RefusedError, SendCall, parse_send
from smsapi.plivo.simulator.wire import Reply, Request, json_reply

_ROUTE = re.compile(r"/v1/Account/(?P<auth_id>[^/]+)/(?P<messages>Message/(?:(?P<message_uuid>[^/]+)/)?)?")
_RETRY_AFTER_SECONDS = 1.0

Wait = Callable[[float], None]


class MessageApi:
    """Plivo's Message API for one account, and what it says of the account. Safe to call from many threads."""

    def __init__(
        self,
        *,
        auth_id: str,
        auth_token: str,
        store: Store,
        faults: Faults,
        callbacks: Callbacks,
        requests_per_5s: int | None,
        lists_per_minute: int | None,
        answer_delay_seconds: float,
        receipt_scale: float,
        hang_seconds: float,
        clock: Clock,
        wait: Wait,
    ) -> None:
        self._auth_id = auth_id
        self._auth_token = auth_token
        self._store = store
        self._faults = faults
        self._callbacks = callbacks
        self._requests = CallLimit(requests_per_5s, 5)
        self._lists = CallLimit(lists_per_minute, 60)
        self._answer_delay_seconds = answer_delay_seconds
        self._receipt_scale = receipt_scale
        self._hang_seconds = hang_seconds
        self._clock = clock
        self._wait = wait

    def answer(self, request: Request) -> Reply | None:
        """Return the reply to the request; None is a connection reset."""
        route = _ROUTE.fullmatch(request.path)
        if route is None:
            return _error(404, "not found")
        if not self._is_authentic(request, route["auth_id"]):
            return _error(401, "authentication failed: auth_id or auth_token is not valid")
        wait_seconds = self._requests.wait_seconds(self._clock.now())
        if wait_seconds is not None:
            return _throttled("rate limit exceeded: too many API requests", wait_seconds)
        if route["messages"] is None:
            return _account(request, self._auth_id)
        return self._dispatch(request, route["message_uuid"])

    def _dispatch(self, request: Request, message_uuid: str | None) -> Reply | None:
        match request.method, message_uuid:
            case "POST", None:
                return self._send_under_faults(request)
            case "GET", None:
                return self._list(request)
            case "GET", str(wanted):
                return self._get(wanted)
            case _:
                return _error(405, "method not allowed")

    def _is_authentic(self, request: Request, auth_id: str) -> bool:
        scheme, _, encoded = (request.authorization or "").partition(" ")
        if scheme.lower() != "basic":
            return False
        try:
            offered = base64.b64decode(encoded.strip(), validate=True)
        except (binascii.Error, ValueError):
            return False
        known = f"{self._auth_id}:{self._auth_token}".encode()
        return hmac.compare_digest(offered, known) and auth_id == self._auth_id

    def _send_under_faults(self, request: Request) -> Reply | None:
        rule = self._faults.strike()
        if rule is None:
            return self._send(request)
        if rule.kind == "slow":
            self._wait(1.0 if rule.seconds is None else rule.seconds)
            return self._send(request)
        if rule.is_taken:
            self._send(request)
        return self._spoil(rule)

    def _spoil(self, rule: Rule) -> Reply | None:
        match rule.kind:
            case "429":
                return _throttled_by(rule)
            case "503":
                headers = {} if rule.retry_after is None else {"Retry-After": f"{rule.retry_after:g}"}
                return _error(503, "service unavailable", headers)
            case "500":
                return _error(500, "internal server error")
            case "html_200":
                return Reply(200, b"<html><body><h1>Please sign in</h1></body></html>", "text/html")
            case "wrong_json":
                return json_reply(200, {"api_id": new_uuid(), "message": "message(s) queued"})
            case "hang":
                self._wait(self._hang_seconds if rule.seconds is None else rule.seconds)
        return None

    def _send(self, request: Request) -> Reply | None:
        try:
            call = parse_send(request.body)
        except RefusedError as error:
            return _error(400, str(error))
        everyone = {number: behaviour_of(number) for number in call.numbers}
        # One call for many reports its bad numbers and takes the good ones.
        numbers = {number: it for number, it in everyone.items() if it.answer(1) is not Answer.BAD_REQUEST}
        if not numbers:
            return _error(400, f"{call.numbers[0]} is not a valid phone number")
        invalid = (*call.invalid, *(number for number in everyone if number not in numbers))
        answer = self._answer_of(call, numbers)
        taken = self._take(request, call, numbers) if answer.is_taken else []
        if self._answer_delay_seconds:
            self._wait(self._answer_delay_seconds)
        return self._word(answer, taken, invalid)

    def _answer_of(self, call: SendCall, numbers: Mapping[str, Behaviour]) -> Answer:
        """Return the call's one answer: that of the first number with anything to say but yes."""
        chosen = Answer.ACCEPTED
        for number, behaviour in numbers.items():
            attempt = 1
            if len(behaviour.answers) > 1:
                attempt = self._store.count_attempt(number, _told_apart_by(call), call.text)
            if chosen is Answer.ACCEPTED:
                chosen = behaviour.answer(attempt)
        return chosen

    def _take(self, request: Request, call: SendCall, numbers: Mapping[str, Behaviour]) -> list[Taken]:
        now = self._clock.now()
        taken = [
            Taken(
                message_uuid=new_uuid(),
                sender=call.sender,
                to=number,
                text=call.text,
                url=call.url,
                method=call.method,
                log=call.log,
                requester_ip=request.peer,
                units=call.length.units,
                taken_at=now,
                behaviour=behaviour,
                scale=self._receipt_scale,
            )
            for number, behaviour in numbers.items()
        ]
        self._store.take(taken)
        for message in taken:
            self._store.forget_attempts(message.to, _told_apart_by(call), message.text)
            self._schedule_receipts(message)
        return taken

    def _schedule_receipts(self, message: Taken) -> None:
        if message.url is None:
            return
        for receipt in message.behaviour.receipts:
            callback = Callback(message.url, message.method, partial(receipt_fields, message, receipt))
            self._callbacks.schedule(message.after(receipt.delay_seconds), callback)

    def _word(self, answer: Answer, taken: list[Taken], invalid: tuple[str, ...]) -> Reply | None:
        match answer:
            case Answer.ACCEPTED:
                return _queued(taken, invalid)
            case Answer.THROTTLED:
                return _throttled("rate limit exceeded", _RETRY_AFTER_SECONDS)
            case Answer.SERVER_ERROR:
                return _error(500, "internal server error")
            case Answer.NO_CREDIT:
                return _error(400, "Insufficient Credit")
            case Answer.NO_ANSWER:
                self._wait(self._hang_seconds)
        return None

    def _get(self, message_uuid: str) -> Reply:
        message = self._store.find(message_uuid)
        if message is None:
            return _error(404, "not found")
        return _reply(200, message_record(message, self._auth_id, self._clock.now()))

    def _list(self, request: Request) -> Reply:
        now = self._clock.now()
        wait_seconds = self._lists.wait_seconds(now)
        if wait_seconds is not None:
            return _throttled("rate limit exceeded: too many list requests", wait_seconds)
        try:
            limit = _parse_count(request.query, "limit", MAXIMUM_PAGE, 1, MAXIMUM_PAGE)
            offset = _parse_count(request.query, "offset", 0, 0, None)
            filters = parse_filters(request.query, now)
        except ValueError as error:
            return _error(400, str(error))
        found = [message for message in reversed(self._store.taken(filters.to)) if filters.admit(message, now)]
        meta = {
            "limit": limit,
            "offset": offset,
            "total_count": len(found),
            "next": _page(request, limit, offset + limit) if offset + limit < len(found) else None,
            "previous": _page(request, limit, max(0, offset - limit)) if offset else None,
        }
        page = [message_record(message, self._auth_id, now) for message in found[offset : offset + limit]]
        return _reply(200, {"meta": meta, "objects": page})


def _told_apart_by(call: SendCall) -> str | None:
    # Each joined call has a URL of its own, also where it tries again what another was refused.
    return call.url if len(call.numbers) + len(call.invalid) == 1 else None


def _account(request: Request, auth_id: str) -> Reply:
    """Answer as the Account API does, by the samples of Plivo's SDKs; this account never runs out of credit."""
    if request.method != "GET":
        return _error(405, "method not allowed")
    content: dict[str, object] = {
        "account_type": "standard",
        "auth_id": auth_id,
        "auto_recharge": False,
        "billing_mode": "prepaid",
        "cash_credits": "100.00000",
        "name": "Simulated",
        "resource_uri": request.path,
        "timezone": "UTC",
    }
    return _reply(200, content)


def _queued(taken: list[Taken], invalid: tuple[str, ...]) -> Reply:
    content: dict[str, object] = {
        "message": "message(s) queued",
        "message_uuid": [message.message_uuid for message in taken],
    }
    if invalid:
        content["invalid_number"] = list(invalid)
    return _reply(202, content)


def _reply(status: int, content: dict[str, object], headers: Mapping[str, str] | None = None) -> Reply:
    api_id = new_uuid()
    return json_reply(status, {"api_id": api_id, **content}, {"X-Request-ID": api_id, **(headers or {})})


def _error(status: int, sentence: str, headers: Mapping[str, str] | None = None) -> Reply:
    return _reply(status, {"error": sentence}, headers)


def _throttled(sentence: str, retry_after_seconds: float) -> Reply:
    return _error(429, sentence, {"Retry-After": f"{retry_after_seconds:g}"})


def _throttled_by(rule: Rule) -> Reply:
    if rule.retry_after == 0:
        # Whether Plivo names a wait on the Message API is not known (plivo-facts 2.3): so it does not here.
        return _error(429, "rate limit exceeded")
    return _throttled("rate limit exceeded", _RETRY_AFTER_SECONDS if rule.retry_after is None else rule.retry_after)


def _parse_count(query: Mapping[str, str], name: str, default: int, least: int, most: int | None) -> int:
    value = query.get(name)
    if value is None:
        return default
    if not (value.isascii() and value.isdigit()) or int(value) < least or (most is not None and int(value) > most):
        raise ValueError(f"{name} parameter is not valid")
    return int(value)


def _page(request: Request, limit: int, offset: int) -> str:
    return f"{request.path}?{urlencode({**request.query, 'limit': limit, 'offset': offset})}"
