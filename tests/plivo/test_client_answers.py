import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smsapi.plivo.answers import RETRY_AFTER_CAP_SECONDS, Answer, clean, read_answer, retry_after_seconds
from smsapi.plivo.outcomes import Accepted, Outcome, Rejected, Unavailable, Unknown

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
UUID = "0b5c1c3e-7f1d-4a86-9a3e-5c0f0f3b9d21"


def read(status: int, body: object, **keywords) -> Outcome:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_answer(Answer(status, raw, keywords.pop("retry_after", None)), now=NOW, **keywords)


@pytest.mark.parametrize("status", [200, 201, 202])
def test_one_uuid_in_a_list_is_accepted(status):
    assert read(status, {"api_id": "a", "message": "queued", "message_uuid": [UUID]}) == Accepted(UUID)


@pytest.mark.parametrize(
    "body",
    [
        b"<html>Welcome</html>",
        b"",
        b"null",
        b"[]",
        b"[" * 60_000,
        b"\xff\xfe\x00",
        b'{"message_uuid": ["' + UUID.encode(),
        7,
        [UUID],
        {},
        {"message_uuid": None},
        {"message_uuid": []},
        {"message_uuid": UUID},
        {"message_uuid": [UUID, UUID]},
        {"message_uuid": [[UUID]]},
        {"message_uuid": [7]},
        {"message_uuid": ["../../x"]},
        {"message_uuid": [UUID + "\n"]},
        {"message": "async api spawned", "api_id": UUID},
        {"error": "no", "message_uuid": []},
    ],
)
def test_a_success_that_is_not_plivos_is_unknown(body):
    outcome = read(202, body)
    assert isinstance(outcome, Unknown)
    assert outcome.status == 202


@pytest.mark.parametrize("status", [101, 300, 301, 302, 307, 308, 408, 500, 501, 502, 503, 504, 599, 999])
@pytest.mark.parametrize("body", [{"error": "insufficient credit"}, b"<html>", {"message_uuid": [UUID]}])
def test_what_does_not_say_whether_it_was_taken_is_unknown(status, body):
    outcome = read(status, body, retry_after="5")
    assert isinstance(outcome, Unknown)
    assert outcome.status == status


@pytest.mark.parametrize("status", [407, 421, 425, 429])
@pytest.mark.parametrize("body", [{"error": "too many"}, b"<html>", b"null"])
def test_what_was_not_looked_at_is_unavailable_for_as_long_as_it_says(status, body):
    outcome = read(status, body, retry_after="17")
    assert isinstance(outcome, Unavailable)
    assert (outcome.status, outcome.retry_after_seconds) == (status, 17)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "message"),
        (401, "account"),
        (402, "account"),
        (403, "account"),
        (404, "message"),
        (405, "message"),
        (409, "message"),
        (413, "message"),
        (418, "message"),
        (422, "message"),
        (451, "message"),
    ],
)
@pytest.mark.parametrize("body", [{"error": "no"}, b"<html>", b"null", b"[]"])
def test_a_refusal_is_of_the_message_or_of_our_account(status, kind, body):
    outcome = read(status, body)
    assert isinstance(outcome, Rejected)
    assert (outcome.kind, outcome.status, outcome.error_code) == (kind, status, None)
    assert outcome.reason == ("no" if body == {"error": "no"} else f"status {status} without a readable error")


@pytest.mark.parametrize("status", [400, 402, 403, 422])
@pytest.mark.parametrize(
    "words",
    ["Insufficient Credit", "you have insufficient funds, top up", "INSUFFICIENT  BALANCE", "insufficient_credit"],
)
def test_an_empty_account_is_told_by_its_wording(status, words):
    outcome = read(status, {"error": words})
    assert isinstance(outcome, Rejected)
    assert (outcome.kind, outcome.error_code) == ("account", "900")


@pytest.mark.parametrize("words", ["Geo-Permission denied", "geo permission is off", "no GeoPermission"])
def test_a_country_that_is_not_enabled_is_our_accounts_cause(words):
    assert read(403, {"error": words}) == Rejected("account", words, 403, "450")


def test_a_geo_word_in_a_400_is_the_messages():
    assert read(400, {"error": "geo permission"}) == Rejected("message", "geo permission", 400)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"error": ["src is bad", "dst is bad"]}, "src is bad; dst is bad"),
        ({"error": {"message": "is bad"}}, "is bad"),
        ({"error": {"error": "is bad"}}, "is bad"),
        ({"error": {"dst": "is bad"}}, '{"dst": "is bad"}'),
        ({"error": [{"dst": "is bad"}, None, 3]}, '{"dst": "is bad"}'),
        ({"Error": "is bad"}, "is bad"),
        ({"message": "is bad"}, "is bad"),
        ({"global_error": "is bad"}, "is bad"),
        ({"error": None}, "status 400 without a readable error"),
        ({"error": ""}, "status 400 without a readable error"),
        ({"error": "two\nlines\x00\x1b[31m"}, "two lines [31m"),
    ],
)
def test_plivos_words_are_found_wherever_it_puts_them(body, reason):
    assert read(400, body) == Rejected("message", reason, 400)


@pytest.mark.parametrize("body", [{"error": "x", "error_code": "50"}, {"error": {"message": "x", "error_code": 50}}])
def test_plivos_own_code_is_kept_as_data(body):
    assert read(400, body) == Rejected("message", "x", 400, "50")


def test_secrets_and_numbers_do_not_reach_the_reason():
    said = "MAXXXXXXXXXXXXXXXXXX:sekret-token said 'meet me at noon' to +1 (415) 555-2671 and 14155552671"
    outcome = read(401, {"error": said}, secrets=("MAXXXXXXXXXXXXXXXXXX", "sekret-token", "meet me at noon", "to"))
    assert isinstance(outcome, Rejected)
    assert outcome.reason == "[hidden]:[hidden] said '[hidden]' to [number] and [number]"


def test_a_limit_in_a_sentence_is_still_readable():
    said = "text parameter length exceeds 737 unicode characters"
    assert clean(said) == said


@given(st.text(max_size=2000))
def test_a_reason_is_bounded_printable_and_on_one_line(said):
    reason = clean(said)
    assert len(reason) <= 300
    assert reason.isprintable()


def test_a_secret_is_hidden_before_the_text_is_cut():
    assert "sekret" not in clean("x" * 295 + "sekret-token", ("sekret-token",))


@given(st.integers(100, 999), st.binary(max_size=200), st.none() | st.text(max_size=20))
def test_any_answer_has_an_outcome(status, body, retry_after):
    outcome = read(status, body, retry_after=retry_after)
    assert isinstance(outcome, Rejected | Unavailable | Unknown)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("0", 0),
        (" 12 ", 12),
        ("999999", RETRY_AFTER_CAP_SECONDS),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90),
        (format_datetime(NOW - timedelta(days=9), usegmt=True), 0),
        (format_datetime(NOW + timedelta(days=9), usegmt=True), RETRY_AFTER_CAP_SECONDS),
        ("Thu, 01 Jan 2026 12:00:30 -0000", 30),
        ("Thu, 01 Jan 2026 14:00:30 +0200", 30),
        (None, None),
        ("", None),
        ("-1", None),
        ("1.5", None),
        ("5, 5", None),
        ("soon", None),
        ("\N{ARABIC-INDIC DIGIT FIVE}", None),
        ("9" * 400, None),
        ("Thu, 99 Jan 2026 12:00:30 GMT", None),
        ("Thu, 01 Jan 99999 12:00:30 GMT", None),
    ],
)
def test_a_retry_after_is_seconds_or_a_date_and_garbage_is_nothing(header, expected):
    assert retry_after_seconds(header, now=NOW) == expected


@given(st.text())
def test_no_retry_after_breaks_or_exceeds_the_cap(header):
    seconds = retry_after_seconds(header, now=NOW)
    assert seconds is None or 0 <= seconds <= RETRY_AFTER_CAP_SECONDS
