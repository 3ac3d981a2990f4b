"""What a call to Plivo can come to: four types, because a caller must do four different things."""

from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Literal, Protocol

from smsapi.plivo.lookup import LookupFailed, Page, Query

# The status of a refusal for which nobody was asked.
NOTHING_ASKED = 0


@dataclass(frozen=True, slots=True)
class Dlt:
    """India's registration of a message: entity, template and category."""

    entity_id: str
    template_id: str
    template_category: str


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One text as it goes to Plivo; numbers are E.164 with their ``+``.

    From ``not_after`` on, by the provider's clock, nothing of the call may go out: others then hold it for over.
    """

    message_id: str
    to: str
    sender: str
    text: str
    callback_url: str | None = None
    expires_in_seconds: int | None = None
    dlt: Dlt | None = None
    attempt: int = 1
    not_after: datetime | None = None


@dataclass(frozen=True, slots=True)
class OutgoingToMany:
    """One text to several numbers, as it goes to Plivo in one call: 2 to 1,000 E.164 numbers, none of them twice.

    Their delivery reports all go to the one ``callback_url`` and are told apart by the number that they name.
    ``not_after`` is as of one text.
    """

    chunk_id: str
    numbers: tuple[str, ...]
    sender: str
    text: str
    callback_url: str | None = None
    expires_in_seconds: int | None = None
    dlt: Dlt | None = None
    not_after: datetime | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """Plivo took the message and answers for it from here on."""

    message_uuid: str


@dataclass(frozen=True, slots=True)
class AcceptedTogether:
    """Plivo took one text to several numbers, but for the ``invalid`` ones, which are among those that were asked for.

    There is one UUID for each number that was taken, and Plivo does not say which is whose (plivo-facts 2.2).
    """

    message_uuids: tuple[str, ...]
    invalid: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rejected:
    """Plivo refused for good: sending the same again brings the same refusal.

    ``kind`` is ``account`` where the cause is our own account (credentials, balance, a feature or a country that is
    not enabled) and ``message`` where it is this message. ``reason`` is Plivo's own sentence, for the record and the
    log; it must not reach a caller on an account problem. ``status`` 0 is a message that could not be asked for at all.
    """

    kind: Literal["message", "account"]
    reason: str
    status: int
    error_code: str | None = None


@dataclass(frozen=True, slots=True)
class Unavailable:
    """Nothing was sent, so sending again later is safe: connection refused, 429.

    ``local`` marks what says nothing of the far side: all our own connections were busy.
    """

    reason: str
    status: int | None = None
    retry_after_seconds: float | None = None
    local: bool = False


@dataclass(frozen=True, slots=True)
class Unknown:
    """The request left and no trustworthy answer came back: Plivo may have taken the message.

    ``local`` marks what says nothing of the far side: a failure of ours that nobody foresaw.
    """

    reason: str
    status: int | None = None
    local: bool = False


Outcome = Accepted | Rejected | Unavailable | Unknown
JoinedOutcome = AcceptedTogether | Rejected | Unavailable | Unknown


def shows_life(outcome: Outcome) -> bool | None:
    """Return whether the call showed a far side that works (``True``) or fails (``False``), ``None`` for neither.

    It works where it took or refused the message and where it throttles: that is an answer of a service that works,
    and has its own remedy, the wait that it names. It fails where it cannot be reached, gives no answer, or one that
    is not Plivo's (5xx, HTML). What never got as far as the network shows nothing.
    """
    match outcome:
        case Accepted():
            return True
        case Rejected(status=status):
            return None if status == NOTHING_ASKED else True
        case Unavailable(local=True) | Unknown(local=True):
            return None
        case Unavailable(status=HTTPStatus.TOO_MANY_REQUESTS):
            return True
        case _:
            return False


class Provider(Protocol):
    """What takes a text and sends it on."""

    @property
    def name(self) -> str:
        """Return the name that a message's ``provider.name`` shows."""
        ...

    def send(self, message: Outgoing) -> Outcome:
        """Make one attempt and say what came of it; never raises for what the far side does."""
        ...

    def send_joined(self, message: OutgoingToMany) -> JoinedOutcome:
        """Make one attempt for all of the numbers and say what came of it; never raises for what the far side does.

        ``Rejected`` and ``Unavailable`` are of all of them: nobody was texted. ``Unknown`` is of each.
        """
        ...

    def look_up(self, query: Query) -> Page | LookupFailed:
        """Return a page of what was taken; never raises for what the far side does.

        Plivo allows 20 such calls a minute by default; keeping to that is the caller's part.
        """
        ...
