"""What a test key's messages meet instead of Plivo: the magic numbers, in process, nobody texted."""

from uuid import NAMESPACE_URL, uuid5

from smsapi.plivo.lookup import Page, Query
from smsapi.plivo.magic import Answer, behaviour_of
from smsapi.plivo.outcomes import (
    NOTHING_ASKED,
    Accepted,
    JoinedOutcome,
    Outcome,
    Outgoing,
    OutgoingToMany,
    Rejected,
    Unavailable,
    Unknown,
)

_FAILURES: dict[Answer, Outcome] = {
    Answer.BAD_REQUEST: Rejected("message", "the destination is not valid (simulated)", 400),
    Answer.NO_CREDIT: Rejected("account", "insufficient credit (simulated)", 400, "900"),
    Answer.THROTTLED: Unavailable("throttled (simulated)", 429),
    Answer.SERVER_ERROR: Unknown("server error (simulated)", 500),
    Answer.ANSWER_LOST: Unknown("the answer was lost (simulated)"),
    Answer.NO_ANSWER: Unknown("no answer in time (simulated)"),
}


class TestProvider:
    """Answers as the recipient's last four digits say (contract section 11), without a network and without waiting."""

    __test__ = False  # not a test, whatever a test runner makes of the name

    @property
    def name(self) -> str:
        """Return ``test``."""
        return "test"

    def send(self, message: Outgoing) -> Outcome:
        """Answer for this attempt; the same attempt always gets the same answer."""
        answer = behaviour_of(message.to).answer(message.attempt)
        if answer is Answer.ACCEPTED:
            return Accepted(str(uuid5(NAMESPACE_URL, message.message_id)))
        return _FAILURES[answer]

    def send_joined(self, message: OutgoingToMany) -> JoinedOutcome:  # noqa: ARG002  # the protocol's signature
        """Refuse: each test message goes by itself, since its own number says what it meets."""
        return Rejected("message", "test messages are not joined", NOTHING_ASKED)

    def look_up(self, query: Query) -> Page:  # noqa: ARG002  # the protocol's signature
        """Return an empty page: nothing is kept here. What became of an attempt is read off ``behaviour_of``."""
        return Page((), 0, None)
