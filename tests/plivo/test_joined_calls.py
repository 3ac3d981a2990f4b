"""One text to many numbers in one call: what goes out, and what is believed of the answer."""

import json

import pytest

from smsapi.plivo.client import MOST_TOGETHER, PlivoProvider
from smsapi.plivo.outcomes import AcceptedTogether, Dlt, OutgoingToMany, Rejected, Unavailable, Unknown
from smsapi.plivo.simulator import Simulator
from tests.plivo.far_side import FarSide

AUTH_ID = "MA0123456789ABCDEFGH"
AUTH_TOKEN = "a-token-that-nobody-may-see"
NUMBERS = ("+14155552671", "+14155552672", "+14155552673")
UUIDS = tuple(f"0b5c1c3e-7f1d-4a86-9a3e-5c0f0f3b9d2{place}" for place in range(3))


def message_to(*numbers, **others):
    return OutgoingToMany(chunk_id="chk_1", numbers=numbers, sender="+14155550100", text="Hello", **others)


def provider_for(origin, **keywords):
    return PlivoProvider(auth_id=AUTH_ID, auth_token=AUTH_TOKEN, base_url=origin, **keywords)


def answering(status, content, headers=None):
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return FarSide(lambda wire, _: wire.answer(status, body, headers))


def ask(status, content, *, numbers=NUMBERS, headers=None):
    with answering(status, content, headers) as far:
        return provider_for(far.origin).send_joined(message_to(*numbers))


def accepted(uuids=UUIDS, **others):
    return {"api_id": "a", "message": "message(s) queued", "message_uuid": list(uuids), **others}


def test_the_numbers_go_out_joined_as_plivo_wants_them():
    message = message_to(
        *NUMBERS,
        callback_url="https://sms.example/plivo/status/batch/chk_1",
        expires_in_seconds=60,
        dlt=Dlt("entity", "template", "transactional"),
    )
    with answering(202, accepted()) as far:
        assert provider_for(far.origin).send_joined(message) == AcceptedTogether(UUIDS)
        (request,) = far.requests
    assert request.json == {
        "src": "14155550100",
        "dst": "14155552671<14155552672<14155552673",
        "text": "Hello",
        "type": "sms",
        "url": "https://sms.example/plivo/status/batch/chk_1",
        "method": "POST",
        "log": "true",
        "trackable": False,
        "message_expiry": 60,
        "dlt_entity_id": "entity",
        "dlt_template_id": "template",
        "dlt_template_category": "transactional",
    }


@pytest.mark.parametrize(
    "numbers",
    [
        (),
        NUMBERS[:1],
        (*NUMBERS, NUMBERS[0]),
        (*NUMBERS, NUMBERS[0].removeprefix("+")),
        (*NUMBERS, "+1415<+1416"),
        (*NUMBERS, "ACME"),
        (*NUMBERS, ""),
        tuple(f"+1415{5550000 + place}" for place in range(MOST_TOGETHER + 1)),
    ],
    ids=["none", "one", "twice", "twice_without_plus", "joined", "name", "empty", "too_many"],
)
def test_what_is_not_two_to_a_thousand_different_numbers_is_not_asked_for(numbers):
    with answering(202, accepted()) as far:
        outcome = provider_for(far.origin).send_joined(message_to(*numbers))
        assert far.requests == []
    assert isinstance(outcome, Rejected)
    assert outcome.status == 0


def test_a_thousand_go_in_one_call():
    numbers = tuple(f"+1415{5551000 + place}" for place in range(MOST_TOGETHER))
    with Simulator(auth_id=AUTH_ID, auth_token=AUTH_TOKEN, requests_per_5s=None) as playing:
        outcome = provider_for(playing.url).send_joined(message_to(*numbers))
        assert isinstance(outcome, AcceptedTogether)
        assert len(outcome.message_uuids) == MOST_TOGETHER
        assert playing.store.count_numbers() == (MOST_TOGETHER, 0)


def test_an_answer_of_a_thousand_ids_may_be_indented():
    numbers = tuple(f"+1415{5551000 + place}" for place in range(MOST_TOGETHER))
    uuids = [f"0b5c1c3e-7f1d-4a86-9a3e-5c0f0f3b{place:04x}" for place in range(MOST_TOGETHER)]
    body = json.dumps(accepted(uuids), indent=12).encode()
    assert ask(202, body, numbers=numbers) == AcceptedTogether(tuple(uuids))


@pytest.mark.parametrize("shown", [NUMBERS[1], NUMBERS[1].removeprefix("+"), "+1 (415) 555-2672"])
def test_numbers_that_plivo_calls_invalid_are_told_as_they_were_given(shown):
    assert ask(202, accepted(UUIDS[:2], invalid_number=[shown])) == AcceptedTogether(UUIDS[:2], (NUMBERS[1],))


def test_all_may_be_invalid():
    outcome = ask(202, accepted((), invalid_number=list(NUMBERS)))
    assert outcome == AcceptedTogether((), NUMBERS)


@pytest.mark.parametrize(
    "content",
    [
        accepted(UUIDS[:2]),
        accepted((*UUIDS, "0b5c1c3e-7f1d-4a86-9a3e-5c0f0f3b9d29")),
        accepted((UUIDS[0], UUIDS[1], UUIDS[1].upper())),
        accepted((*UUIDS[:2], "no uuid")),
        accepted((*UUIDS[:2], 7)),
        accepted(UUIDS, invalid_number=[NUMBERS[0]]),
        accepted(UUIDS[:2], invalid_number=["+14155559999"]),
        accepted(UUIDS[:1], invalid_number=[NUMBERS[0], NUMBERS[0]]),
        accepted(UUIDS[:2], invalid_number=NUMBERS[0]),
        accepted(UUIDS[:2], invalid_number=[7]),
        accepted(UUIDS[:2], invalid_number=[""]),
        {**accepted(), "message_uuid": UUIDS[0]},
        {**accepted(), "message_uuid": None},
        {"api_id": "a", "message": "async api spawned"},
        [],
        b"<html>Please sign in</html>",
        b"",
        b"null",
    ],
)
def test_an_answer_that_does_not_account_for_every_number_leaves_all_in_doubt(content):
    assert ask(202, content) == Unknown("the answer does not account for every number", 202)


def test_all_else_is_as_for_one_number():
    assert ask(400, {"error": "text parameter length exceeds 737 unicode characters"}) == Rejected(
        "message", "text parameter length exceeds 737 unicode characters", 400
    )
    assert ask(401, {"error": "no"}) == Rejected("account", "no", 401)
    assert ask(400, {"error": "Insufficient Credit"}) == Rejected("account", "Insufficient Credit", 400, "900")
    assert ask(429, {"error": "slow"}, headers={"Retry-After": "7"}) == Unavailable("slow", 429, 7.0)
    assert ask(503, {"error": "down"}) == Unknown("down", 503)
    refused = provider_for("http://127.0.0.1:1").send_joined(message_to(*NUMBERS))
    assert isinstance(refused, Unavailable)


def test_no_number_of_them_reaches_the_reason():
    outcome = ask(400, {"error": f"{NUMBERS[2].removeprefix('+')} is not valid for Hello"})
    assert isinstance(outcome, Rejected)
    assert not any(number.removeprefix("+") in outcome.reason for number in NUMBERS)


def test_the_sender_is_none_of_the_recipients():
    outcome = provider_for("http://127.0.0.1:1").send_joined(message_to(*NUMBERS, "+14155550100"))
    assert isinstance(outcome, Rejected)
    assert outcome.status == 0
