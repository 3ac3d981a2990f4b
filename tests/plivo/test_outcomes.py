import pytest

from smsapi.plivo.outcomes import Accepted, Rejected, Unavailable, Unknown, shows_life


@pytest.mark.parametrize(
    ("outcome", "life"),
    [
        (Accepted("0b5c1c3e-7f1d-4a86-9a3e-5c0f0f3b9d21"), True),
        (Rejected("message", "no", 400), True),
        (Rejected("account", "no", 401), True),
        (Rejected("account", "no credit", 402, "900"), True),
        (Unavailable("throttled", 429, 7.0), True),
        (Unavailable("the connection was refused"), False),
        (Unavailable("the proxy wants a password", 407), False),
        (Unavailable("too early", 425), False),
        (Unknown("waiting for the answer timed out"), False),
        (Unknown("the connection was reset"), False),
        (Unknown("status 503 without a readable error", 503), False),
        (Unknown("the answer names no single message_uuid", 200), False),
        (Rejected("message", "the destination is not one phone number", 0), None),
        (Unavailable("every connection to the far side is in use", local=True), None),
        (Unknown("the call failed (TypeError)", local=True), None),
    ],
)
def test_an_outcome_shows_a_far_side_that_works_or_fails_or_nothing_of_it(outcome, life):
    assert shows_life(outcome) is life
