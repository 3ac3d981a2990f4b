"""The magic numbers: the last four digits of a number choose what becomes of a text to it.

Pure values, shared by whatever plays Plivo: the simulator, which makes them real on the wire, and a test key's own
provider. Delays are in seconds from the moment the message was taken.
"""

from dataclasses import dataclass
from enum import StrEnum

SENT_AFTER_SECONDS = 0.1
SETTLED_AFTER_SECONDS = 1.0


class Answer(StrEnum):
    """What one send call gets for an answer."""

    ACCEPTED = "accepted"
    BAD_REQUEST = "bad_request"
    THROTTLED = "throttled"
    SERVER_ERROR = "server_error"
    ANSWER_LOST = "answer_lost"
    NO_ANSWER = "no_answer"
    NO_CREDIT = "no_credit"

    @property
    def is_taken(self) -> bool:
        """Say whether Plivo has the message after this answer; a lost answer changes nothing about that."""
        return self in {Answer.ACCEPTED, Answer.ANSWER_LOST}


@dataclass(frozen=True, slots=True)
class PlannedReceipt:
    """One delivery report to come, as Plivo words it: its status, and its error code where it says one.

    ``sequence`` is the place in the message's true history, which is not always the order of arrival.
    """

    delay_seconds: float
    status: str
    error_code: str | None
    sequence: int


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What happens to a text: the answers to the first, second, … attempt (the last repeats), then its receipts."""

    meaning: str
    answers: tuple[Answer, ...]
    receipts: tuple[PlannedReceipt, ...]

    def answer(self, attempt: int) -> Answer:
        """Return the answer to the attempt, counted from 1.

        Raises ValueError below 1.
        """
        if attempt < 1:
            raise ValueError("Attempts are counted from 1.")
        return self.answers[min(attempt, len(self.answers)) - 1]

    def reached(self, seconds: float) -> PlannedReceipt | None:
        """Return how far a taken message has come after so many seconds; None is before its first report."""
        due = [receipt for receipt in self.receipts if receipt.delay_seconds <= seconds]
        return max(due, key=lambda receipt: receipt.sequence, default=None)


_ONCE = (Answer.ACCEPTED,)
_SENT = PlannedReceipt(SENT_AFTER_SECONDS, "sent", None, 1)
_DELIVERED = PlannedReceipt(SETTLED_AFTER_SECONDS, "delivered", None, 2)
_ARRIVES = (_SENT, _DELIVERED)

DELIVERED = Behaviour("delivered after a second", _ONCE, _ARRIVES)

MAGIC: dict[str, Behaviour] = {
    "0001": DELIVERED,
    # 30: the carrier's spam filter.
    "0002": Behaviour("undelivered", _ONCE, (_SENT, PlannedReceipt(SETTLED_AFTER_SECONDS, "undelivered", "30", 2))),
    "0003": Behaviour("refused with 400", (Answer.BAD_REQUEST,), ()),
    # 200: the recipient told this sender STOP. Plivo takes the message and reports it failed; it never left.
    "0004": Behaviour("opted out", _ONCE, (PlannedReceipt(SETTLED_AFTER_SECONDS, "failed", "200", 1),)),
    "0005": Behaviour("429 twice", (Answer.THROTTLED, Answer.THROTTLED, Answer.ACCEPTED), _ARRIVES),
    "0006": Behaviour("500 twice", (Answer.SERVER_ERROR, Answer.SERVER_ERROR, Answer.ACCEPTED), _ARRIVES),
    "0007": Behaviour("taken, and the answer is lost", (Answer.ANSWER_LOST,), _ARRIVES),
    "0008": Behaviour("never answers", (Answer.NO_ANSWER,), ()),
    "0009": Behaviour("sent, and no receipt ever", _ONCE, ()),
    "0010": Behaviour(
        "receipts reordered and repeated",
        _ONCE,
        (
            PlannedReceipt(0.1, "delivered", None, 2),
            PlannedReceipt(0.4, "sent", None, 1),
            PlannedReceipt(0.7, "delivered", None, 2),
            PlannedReceipt(1.0, "sent", None, 1),
        ),
    ),
    "0011": Behaviour("insufficient credit", (Answer.NO_CREDIT,), ()),
}


def behaviour_of(number: str) -> Behaviour:
    """Return what becomes of a text to the number, with or without its ``+``; an ordinary one is delivered."""
    return MAGIC.get(number[-4:], DELIVERED)
