"""What a call to Plivo can come to: four types, because a caller must do four different things."""

from dataclasses import dataclass
from typing import Literal, Protocol


@dataclass(frozen=True, slots=True)
class Dlt:
    """India's registration of a message: entity, template and category."""

    entity_id: str
    template_id: str
    template_category: str


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One text as it goes to Plivo; numbers are E.164 with their ``+``."""

    message_id: str
    to: str
    sender: str
    text: str
    callback_url: str | None = None
    expires_in_seconds: int | None = None
    dlt: Dlt | None = None
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class Accepted:
    """Plivo took the message and answers for it from here on."""

    message_uuid: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """Plivo refused for good: sending the same again brings the same refusal.

    ``kind`` is ``account`` where the cause is our own account (credentials, balance, a feature or a country that is
    not enabled) and ``message`` where it is this message. ``reason`` is Plivo's own sentence, for the record and the
    log; it must not reach a caller on an account problem.
    """

    kind: Literal["message", "account"]
    reason: str
    status: int
    error_code: str | None = None


@dataclass(frozen=True, slots=True)
class Unavailable:
    """Nothing was sent, so sending again later is safe: connection refused, 429, breaker open."""

    reason: str
    status: int | None = None
    retry_after_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Unknown:
    """The request left and no trustworthy answer came back: Plivo may have taken the message."""

    reason: str
    status: int | None = None


Outcome = Accepted | Rejected | Unavailable | Unknown


class Provider(Protocol):
    """What takes a text and sends it on."""

    @property
    def name(self) -> str:
        """Return the name that a message's ``provider.name`` shows."""
        ...

    def send(self, message: Outgoing) -> Outcome:
        """Make one attempt and say what came of it; never raises for what the far side does."""
        ...
