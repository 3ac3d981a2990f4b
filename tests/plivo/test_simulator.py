"""The simulator's Message API, over real sockets."""

from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import plivo
import pytest
import requests

from smsapi.clock import ManualClock
from smsapi.plivo.simulator import Simulator
from smsapi.plivo.simulator.units import measure

AUTH = ("MAXXXXXXXXXXXXXXXXXX", "the-token")
MESSAGES = f"/v1/Account/{AUTH[0]}/Message/"
NOON = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)


@pytest.fixture
def clock():
    return ManualClock(NOON)


@pytest.fixture
def simulator(clock):
    with Simulator(
        auth_id=AUTH[0], auth_token=AUTH[1], requests_per_5s=None, lists_per_minute=None, hang_seconds=60, clock=clock
    ) as running:
        yield running


@pytest.fixture
def session():
    with requests.Session() as opened:
        opened.auth = AUTH
        opened.trust_env = False
        yield opened


@pytest.fixture
def send(simulator, session):
    def send(dst="14155550001", *, timeout=5, **fields):
        body = {"src": "14150000000", "dst": dst, "text": "Hello", "type": "sms"} | fields
        body = {name: value for name, value in body.items() if value is not None}
        return session.post(simulator.url + MESSAGES, json=body, timeout=timeout)

    return send


def test_a_text_is_queued_in_plivos_words(simulator, send):
    answer = send()

    body = answer.json()
    assert answer.status_code == 202
    assert body.keys() == {"api_id", "message", "message_uuid"}
    assert body["message"] == "message(s) queued"
    assert answer.headers["X-Request-ID"] == body["api_id"]
    assert [message.message_uuid for message in simulator.store.taken()] == body["message_uuid"]


def test_plivos_own_sdk_understands_it(simulator):
    class LocalClient(plivo.RestClient):
        def create_request(self, *args, **kwargs):
            self.base_uri = f"{simulator.url}/v1/Account"
            return super().create_request(*args, **kwargs)

    with LocalClient(*AUTH) as client:
        created = client.messages.create(src="14150000000", dst="+14155550001", text="Hello 😀")
        record = client.messages.get(created.message_uuid[0])
        listed = client.messages.list(to_number="14155550001", limit=5)
        with pytest.raises(plivo.exceptions.ResourceNotFoundError):
            client.messages.get("00000000-0000-0000-0000-000000000000")
        with pytest.raises(plivo.exceptions.ValidationError, match="exceeds 737 unicode characters"):
            client.messages.create(src="14150000000", dst="+14155550001", text="я" * 738)

    assert (record.message_state, record.units, record.to_number) == ("queued", 1, "14155550001")
    assert [message.message_uuid for message in listed.objects] == created.message_uuid
    assert listed.meta.total_count == 1


def test_joined_numbers_are_cleaned_deduplicated_and_sifted(simulator, send):
    answer = send("+1 (415) 555-2001<14155552001<nonsense<14155552002<14155550003")

    body = answer.json()
    assert answer.status_code == 202
    assert len(body["message_uuid"]) == 2
    assert body["invalid_number"] == ["nonsense", "14155550003"]
    assert sorted(message.to for message in simulator.store.taken()) == ["14155552001", "14155552002"]


def test_a_thousand_numbers_fit_one_call_and_one_more_does_not(simulator, send):
    thousand = "<".join(str(14155600000 + place * 100) for place in range(1000))

    assert len(send(thousand).json()["message_uuid"]) == 1000
    assert send(thousand + "<14159999999").status_code == 400
    assert send(thousand + "<14155600000").status_code == 202
    assert simulator.store.count() == 2000


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"src": None}, "src parameter is required"),
        ({"dst": None}, "dst parameter is required"),
        ({"text": None}, "text parameter is required"),
        ({"text": ""}, "text parameter is required"),
        ({"text": "a" * 1601}, "text parameter length exceeds 1600 characters"),
        ({"text": "€" * 801}, "text parameter length exceeds 1600 characters"),
        ({"text": "я" * 738}, "text parameter length exceeds 737 unicode characters"),
        ({"text": "😀" * 369}, "text parameter length exceeds 737 unicode characters"),
        ({"src": "+1 415 555 0001"}, "src parameter is identical to dst parameter"),
        ({"src": "TwelveLetter"}, "src parameter is not valid"),
        ({"src": "!"}, "src parameter is not valid"),
        ({"dst": "12"}, "12 is not a valid phone number"),
        ({"dst": "123456789012345"}, "123456789012345 is not a valid phone number"),
        ({"dst": ["14155550001"]}, "dst parameter is required"),
        ({"message_expiry": 4}, "message_expiry parameter must be between 5 and 10799 seconds"),
        ({"message_expiry": 10_800}, "message_expiry parameter must be between 5 and 10799 seconds"),
        ({"url": "ftp://127.0.0.1/"}, "url parameter is not a valid URL"),
        ({"url": "file:///etc/passwd"}, "url parameter is not a valid URL"),
        ({"url": "http://[broken"}, "url parameter is not a valid URL"),
        ({"url": 5}, "url parameter is not a valid URL"),
        ({"method": "PUT"}, "method parameter is not valid"),
        ({"log": "perhaps"}, "log parameter is not valid"),
        ({"type": "fax"}, "type parameter is not valid: this simulator sends sms only"),
    ],
)
def test_what_plivo_would_refuse_is_refused_with_a_sentence(simulator, send, fields, sentence):
    answer = send(**fields)

    assert answer.status_code == 400
    assert answer.json().keys() == {"api_id", "error"}
    assert answer.json()["error"] == sentence
    assert simulator.store.count() == 0


@pytest.mark.parametrize(
    "fields",
    [
        {"text": "a" * 1600},
        {"text": "я" * 737},
        {"message_expiry": 5},
        {"message_expiry": 10_799},
        {"src": "ACME"},
        {"log": False},
        {"url": None},
    ],
)
def test_what_plivo_just_takes_is_taken(send, fields):
    assert send(**fields).status_code == 202


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"{", b'"x"', b'{"dst": "\xff"}', b'{"text": "\\ud800"}'])
def test_a_body_that_is_no_json_object_is_400(simulator, session, body):
    assert session.post(simulator.url + MESSAGES, data=body, timeout=5).status_code == 400


@pytest.mark.parametrize("auth", [None, (AUTH[0], "wrong"), ("MAYYYYYYYYYYYYYYYYYY", AUTH[1]), (AUTH[0], "")])
def test_wrong_credentials_are_401(simulator, session, auth):
    session.auth = auth

    answer = session.get(simulator.url + MESSAGES, timeout=5)

    assert answer.status_code == 401
    assert answer.json().keys() == {"api_id", "error"}


def test_another_accounts_path_and_unreadable_credentials_are_401(simulator, session):
    other = session.get(f"{simulator.url}/v1/Account/MAYYYYYYYYYYYYYYYYYY/Message/", timeout=5)
    session.auth = None
    garbled = session.get(simulator.url + MESSAGES, headers={"Authorization": "Basic ???"}, timeout=5)

    assert (other.status_code, garbled.status_code) == (401, 401)


def test_other_paths_and_methods_are_not_found_or_not_allowed(simulator, session):
    assert session.get(f"{simulator.url}/v1/Account/{AUTH[0]}/Call/", timeout=5).status_code == 404
    assert session.delete(simulator.url + MESSAGES, timeout=5).status_code == 405
    assert session.get(f"{simulator.url}/_nowhere", timeout=5).status_code == 404


def test_a_record_shows_the_message_and_how_far_it_came(simulator, session, clock, send):
    message_uuid = send("14155550002", text="[" * 100).json()["message_uuid"][0]
    url = f"{simulator.url}{MESSAGES}{message_uuid}/"

    def record():
        return session.get(url, timeout=5).json()

    assert (record()["message_state"], record()["error_code"]) == ("queued", None)
    clock.advance(0.5)
    assert (record()["message_state"], record()["error_code"]) == ("sent", None)
    clock.advance(0.5)
    final = record()
    assert (final["message_state"], final["error_code"]) == ("undelivered", "30")
    assert (final["units"], final["total_rate"], final["total_amount"]) == (2, "0.00550", "0.01100")
    assert (final["from_number"], final["to_number"]) == ("14150000000", "14155550002")
    assert final["message_time"] == "2026-05-04 17:30:00.000000+05:30"
    assert final["resource_uri"] == f"{MESSAGES}{message_uuid}/"


@pytest.mark.parametrize(
    "ending",
    [("0001", "delivered", "000"), ("0004", "failed", "200"), ("0009", "sent", None), ("0010", "delivered", "000")],
)
def test_each_magic_number_ends_in_its_state(simulator, session, clock, send, ending):
    digits, state, error_code = ending
    send(f"1415555{digits}")
    clock.advance(5)

    (record,) = session.get(simulator.url + MESSAGES, timeout=5).json()["objects"]

    assert (record["message_state"], record["error_code"]) == (state, error_code)


def test_a_masked_number_stays_masked_in_its_record(simulator, session, send):
    send("14155552345", log="false")

    (record,) = session.get(simulator.url + MESSAGES, params={"to_number": "14155552345"}, timeout=5).json()["objects"]

    assert record["to_number"] == "14155552***"


def test_the_list_pages_newest_first(simulator, session, clock, send):
    for number in range(14155552000, 14155552045):
        send(str(number))
        clock.advance(1)

    seen, url = [], f"{MESSAGES}?limit=20"
    while url is not None:
        page = session.get(simulator.url + url, timeout=5).json()
        seen += [int(record["to_number"]) for record in page["objects"]]
        assert page["meta"]["total_count"] == 45
        url = page["meta"]["next"]

    assert seen == list(range(14155552044, 14155551999, -1))
    assert parse_qs(urlsplit(page["meta"]["previous"]).query) == {"limit": ["20"], "offset": ["20"]}


@pytest.mark.parametrize("query", ["limit=21", "limit=0", "limit=x", "offset=-1", "message_time__gt=yesterday"])
def test_a_list_call_that_plivo_cannot_read_is_400(simulator, session, query):
    assert session.get(f"{simulator.url}{MESSAGES}?{query}", timeout=5).status_code == 400


@pytest.fixture
def three_days(clock, send):
    """A text to each of …0001, 0002, 0004 at 36, 12 and 0 hours before now, which is NOON and 10 seconds."""
    for hours, number in ((-36, "14155550001"), (24, "14155550002"), (12, "14155550004")):
        clock.advance(hours * 3600)
        send(number, src="ACME" if number.endswith("4") else "14150000000")
    clock.advance(10)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ["0004", "0002"]),
        ("message_time__gte=2026-05-01 00:00", ["0004", "0002", "0001"]),
        ("message_time__gt=2026-05-04 00:00:00", ["0004"]),
        ("message_time__gte=2026-05-04 00:00:00", ["0004", "0002"]),
        ("message_time__lt=2026-05-04 00:00:00.000000", ["0001"]),
        ("message_time__lte=2026-05-04 00:00", ["0002", "0001"]),
        ("message_time=2026-05-04 12:00", ["0004"]),
        ("message_time__gte=2026-05-03 01:00&message_time__lt=2026-05-04 12:00", ["0002"]),
        ("to_number=14155550002", ["0002"]),
        ("to_number=+14155550002", ["0002"]),
        ("to_number=14155550001", []),
        ("from_number=ACME", ["0004"]),
        ("message_state=failed", ["0004"]),
        ("error_code=30", ["0002"]),
        ("message_time__gte=2026-05-01 00:00&error_code=000", ["0001"]),
        ("message_direction=outbound", ["0004", "0002"]),
        ("message_direction=inbound", []),
    ],
)
@pytest.mark.usefixtures("three_days")
def test_the_list_is_filtered_as_plivo_does(simulator, session, query, found):
    answer = session.get(f"{simulator.url}{MESSAGES}?{query}", timeout=5)

    assert [record["to_number"][-4:] for record in answer.json()["objects"]] == found


def test_429_twice_then_accepted(simulator, send):
    answers = [send("14155550005") for _ in range(3)]

    assert [answer.status_code for answer in answers] == [429, 429, 202]
    assert [answer.headers.get("Retry-After") for answer in answers] == ["1", "1", None]
    assert simulator.store.count() == 1


def test_500_twice_then_accepted_for_each_message_on_its_own(simulator, send):
    urls = ["http://127.0.0.1:9/a", "http://127.0.0.1:9/b"]
    statuses = [send("14155550006", url=url).status_code for url in urls + urls + urls]

    assert statuses == [500, 500, 500, 500, 202, 202]
    assert simulator.store.count() == 2


def test_a_lost_answer_is_a_reset_after_the_message_was_taken(simulator, send):
    with pytest.raises(requests.ConnectionError):
        send("14155550007")

    assert simulator.store.count("14155550007") == 1


def test_no_answer_ever_is_silence_and_nothing_taken(simulator, send):
    with pytest.raises(requests.ReadTimeout):
        send("14155550008", timeout=0.2)

    assert simulator.store.count() == 0


def test_insufficient_credit_and_a_refused_number_are_400(simulator, send):
    poor, refused = send("14155550011"), send("14155550003")

    assert (poor.status_code, poor.json()["error"]) == (400, "Insufficient Credit")
    assert (refused.status_code, refused.json()["error"]) == (400, "14155550003 is not a valid phone number")
    assert simulator.store.count() == 0


def test_more_requests_than_the_limit_are_429_until_the_window_has_passed(clock, session):
    with Simulator(auth_id=AUTH[0], auth_token=AUTH[1], requests_per_5s=3, clock=clock) as limited:
        url = f"{limited.url}{MESSAGES}missing/"
        statuses = [session.get(url, timeout=5).status_code for _ in range(4)]
        clock.advance(2)
        refused = session.get(url, timeout=5)
        clock.advance(3)
        later = session.get(url, timeout=5).status_code

    assert statuses == [404, 404, 404, 429]
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "3")
    assert later == 404


def test_list_calls_have_a_limit_of_their_own(clock, session):
    with Simulator(
        auth_id=AUTH[0], auth_token=AUTH[1], requests_per_5s=None, lists_per_minute=2, clock=clock
    ) as limited:
        statuses = [session.get(limited.url + MESSAGES, timeout=5).status_code for _ in range(3)]
        other = session.get(f"{limited.url}{MESSAGES}missing/", timeout=5).status_code
        clock.advance(60)
        statuses.append(session.get(limited.url + MESSAGES, timeout=5).status_code)

    assert statuses == [200, 200, 429, 200]
    assert other == 404


def test_a_limit_of_zero_is_zero(session):
    with Simulator(auth_id=AUTH[0], auth_token=AUTH[1], requests_per_5s=0) as closed:
        assert session.get(closed.url + MESSAGES, timeout=5).status_code == 429


@pytest.mark.parametrize(
    ("text", "is_gsm7", "size", "units"),
    [
        ("a" * 160, True, 160, 1),
        ("a" * 161, True, 161, 2),
        ("a" * 306, True, 306, 2),
        ("a" * 307, True, 307, 3),
        ("€" * 80, True, 160, 1),
        ("ç", False, 1, 1),
        ("я" * 70, False, 70, 1),
        ("я" * 71, False, 71, 2),
        ("😀" * 35, False, 70, 1),
        ("😀" * 36, False, 72, 2),
    ],
)
def test_units_are_counted_as_plivo_bills_them(text, is_gsm7, size, units):
    length = measure(text)

    assert (length.is_gsm7, length.size, length.units) == (is_gsm7, size, units)


def test_the_default_window_is_the_last_day(simulator, session, clock, send):
    send()
    clock.advance(timedelta(hours=24).total_seconds())
    inside = session.get(simulator.url + MESSAGES, timeout=5).json()["meta"]["total_count"]
    clock.advance(0.001)
    outside = session.get(simulator.url + MESSAGES, timeout=5).json()["meta"]["total_count"]

    assert (inside, outside) == (1, 0)
