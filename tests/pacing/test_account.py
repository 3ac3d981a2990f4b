"""While Plivo refuses the account itself, the queue waits, and one message at a time asks whether it may go."""

import pytest

from smsapi.plivo.outcomes import NOTHING_ASKED, Rejected, Unavailable
from tests.conftest import new_caller

NO_CREDIT = Rejected("account", "Insufficient credit on MA123", 400, "900")
PAYMENT = Rejected("account", "payment required", 402)
UNAUTHORIZED = Rejected("account", "authentication failed for MA123", 401)
COUNTRY = Rejected("account", "geo-permission for this country", 403, "450")
FEATURE = Rejected("account", "this feature is not enabled", 403)
BAD_NUMBER = Rejected("message", "the destination is not valid", 400)
NEVER_ASKED = Rejected("message", "the text cannot be written down", NOTHING_ASKED)
REFUSED = Unavailable("the connection was refused")


@pytest.fixture
def broke(services):
    """Services whose account has just run out of credit, with five more messages in the queue."""
    services.first, *services.others = services.queue(6)
    assert services.send(NO_CREDIT) == 1
    return services


@pytest.mark.parametrize(
    ("refusal", "trouble"),
    [(NO_CREDIT, "credit"), (PAYMENT, "credit"), (UNAUTHORIZED, "credentials")],
    ids=["no credit", "402", "401"],
)
def test_a_queued_message_that_meets_it_goes_back_and_says_why(services, refusal, trouble):
    first, *others = services.queue(3)
    assert services.send(refusal, None) == 1
    assert services.are_stopped()
    assert len(services.plivo.asked) == 1
    seen = services.message(first)
    assert (seen["status"], seen["error"], seen["attempts"]) == ("queued", None, 1)
    told = ("message.queued", {"reason": "account_paused", "trouble": trouble})
    assert services.events(first) == [("message.queued", {}), told]
    assert [services.events(other) for other in others] == [[("message.queued", {})]] * 2
    assert "MA123" not in str(seen)
    assert services.stops()["account"]["reason"] == trouble


def test_one_message_at_a_time_asks_again_and_each_time_another(broke, clock):
    asked = len(broke.plivo.asked)
    for _ in range(35):
        clock.advance(1)
        broke.send(NO_CREDIT, NO_CREDIT)
    assert len(broke.plivo.asked) - asked == 3
    numbers = [message.to for message in broke.plivo.asked]
    assert numbers == [message["to"] for message in (broke.first, *broke.others[:3])]
    assert {broke.message(message)["status"] for message in (broke.first, *broke.others)} == {"queued"}


def test_the_first_that_is_taken_opens_the_way_for_all(broke, clock):
    clock.advance(10)
    (probe,) = broke.begin(limit=9)
    assert broke.are_stopped()
    broke.make(probe)
    assert broke.stops() == {}
    assert broke.send(*[None] * 9) == 5
    assert {broke.message(message)["status"] for message in (broke.first, *broke.others)} == {"sent"}


def test_those_that_were_out_together_when_it_began_all_go_back(services):
    messages = services.queue(4)
    for begun in services.begin(limit=4):
        services.make(begun, UNAUTHORIZED)
    assert {services.message(message)["status"] for message in messages} == {"queued"}
    assert services.are_stopped()


def test_a_late_success_of_a_call_that_began_before_does_not_open_it(services, clock):
    services.queue(4)
    (early,) = services.begin()
    services.send(NO_CREDIT)
    services.make(early)
    assert services.are_stopped()
    clock.advance(10)
    assert services.send(None) == 1
    assert services.stops() == {}


def test_a_late_refusal_of_a_call_that_began_before_neither_prolongs_it_nor_ends_the_probe(services, clock):
    services.queue(6)
    early = services.begin(limit=2)
    services.send(NO_CREDIT)
    clock.advance(8)
    services.make(early[0], NO_CREDIT)
    clock.advance(2)
    (probe,) = services.begin()
    services.make(early[1], NO_CREDIT)
    held = services.callers[1].send(headers={"Prefer": "wait=0"})
    assert (held.status_code, held.get_json()["attempts"]) == (202, 0)
    services.make(probe)
    assert services.stops() == {}


def test_a_probe_of_which_nothing_is_heard_is_followed_by_another(broke, clock):
    clock.advance(10)
    (lost,) = broke.begin()
    clock.advance(23.9)  # twice the longest call
    assert broke.are_stopped()
    clock.advance(0.1)
    (second,) = broke.begin()
    assert lost.message.id != second.message.id


def test_a_probe_that_reached_nobody_leaves_the_account_closed(broke, clock):
    clock.advance(10)
    assert broke.send(REFUSED) == 1
    clock.advance(9.9)
    assert broke.are_stopped()
    clock.advance(0.1)
    assert broke.send(None) == 1
    assert broke.stops() == {}


def test_a_refusal_of_the_probe_itself_says_nothing_of_the_credit(broke, clock):
    clock.advance(10)
    # The next in line is the probe then, at once: nothing of the account was used up.
    assert broke.send(BAD_NUMBER, COUNTRY, NEVER_ASKED) == 3
    assert broke.stops()["account"]["reason"] == "credit"
    assert [broke.message(message)["status"] for message in broke.others[:3]] == ["failed"] * 3
    assert broke.send(NO_CREDIT) == 1
    assert broke.are_stopped()
    clock.advance(10)
    # Neither has been taken, or seen another taken: it is the account that is refused, not they.
    assert broke.send(NO_CREDIT) == 1
    clock.advance(10)
    assert broke.send(NO_CREDIT) == 1
    waiting = (broke.first, *broke.others[3:])
    assert [broke.message(message)["status"] for message in waiting] == ["queued"] * 3


def test_a_refusal_of_the_probe_itself_shows_that_the_credentials_are_good(services, clock):
    services.queue(3)
    assert services.send(UNAUTHORIZED) == 1
    clock.advance(10)
    assert services.send(BAD_NUMBER) == 1
    assert services.stops() == {}


def test_a_message_that_is_refused_again_after_others_were_taken_is_itself_the_reason(broke, clock):
    clock.advance(10)
    assert broke.send(None, None) == 2
    for _ in range(3):
        assert broke.send(None) == 1
    assert broke.message(broke.first)["status"] == "queued"
    assert broke.send(NO_CREDIT) == 1
    seen = broke.message(broke.first)
    assert (seen["status"], seen["error"]["code"], seen["attempts"]) == ("failed", "provider_account", 2)
    assert "MA123" not in str(seen) + str(broke.events(broke.first))


def test_a_caller_who_waits_is_a_probe_at_once_and_is_told(broke):
    for _ in range(2):
        broke.plivo.answer = NO_CREDIT
        refused = broke.callers[1].send()
        assert (refused.status_code, refused.get_json()["code"]) == (502, "provider_account")
        assert "credit" not in refused.get_data(as_text=True).lower()
        seen = broke.callers[1].message(refused.get_json()["message_id"])
        assert (seen["status"], seen["attempts"]) == ("failed", 1)
        assert broke.are_stopped()
    broke.plivo.answer = None
    assert broke.callers[1].send().status_code == 201
    assert broke.stops() == {}
    assert broke.send(*[None] * 9) == 5


def test_what_is_refused_for_its_country_or_a_feature_pauses_nothing(services):
    messages = services.queue(3)
    assert services.send(COUNTRY, FEATURE, None) == 3
    assert services.stops() == {}
    assert [services.message(message)["status"] for message in messages] == ["failed", "failed", "sent"]
    refused = services.message(messages[0])
    assert (refused["error"]["code"], refused["provider"]["error_code"]) == ("provider_account", "450")


def test_test_keys_neither_wait_for_the_account_nor_speak_for_it(broke, services):
    tester = new_caller(broke.apps[0], mode="test")
    assert tester.send(to="+14155550001").status_code == 201
    assert tester.send(to="+14155550011").status_code == 502
    (queued,) = broke.queue(1, tester)
    assert len(broke.begin()) == 1  # the test key's own
    assert tester.message(queued["id"])["status"] == "sending"
    assert broke.stops()["account"]["reason"] == "credit"


def test_a_test_key_s_empty_account_closes_nothing(services):
    tester = new_caller(services.apps[0], mode="test")
    refused = tester.send(to="+14155550011")
    assert (refused.status_code, refused.get_json()["code"]) == (502, "provider_account")
    assert services.stops() == {}
