"""A preview says what a send would do, and does nothing."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.api import LANDLINE, TO
from tests.support.examples import many
from tests.support.far_side import ScriptedProvider, count_rows

PRICES = {"currency": "USD", "countries": {"US": "0.00790", "GB": "0.04"}}
_NUMBERS = [TO, "+14155550003", "+447400123456", "+919812345678", "+33612345678", "+80012345678", LANDLINE, "+1", "x"]
_ORDERS = st.fixed_dictionaries(
    {
        "to": st.sampled_from(_NUMBERS),
        "text": st.one_of(
            st.text(st.sampled_from("ab€é☃🎉“…\n\u200b"), min_size=1, max_size=200),
            st.sampled_from(["a" * 160, "a" * 161, "a" * 1600, "a" * 1601, "“" * 738, "🎉" * 369, "\x00"]),
        ),
    },
    optional={
        "from": st.sampled_from(["ACME", "Other", "ACMEIN", "12345", "+14155550199", "+16135550100", ""]),
        "max_segments": st.sampled_from([1, 2, 10, 0]),
        "max_price": st.sampled_from(["0", "0.0079", "0.02", "1", "x"]),
        "smart_encoding": st.booleans(),
        "category": st.sampled_from(["otp", "marketing", "none"]),
        "reference": st.sampled_from(["r", ""]),
        "send_at": st.just("2030-01-01T00:00:00Z"),
    },
)


@pytest.fixture
def database_url(sqlite_url):
    """What is foretold does not depend on the store."""
    return sqlite_url


@pytest.fixture
def caller(make_app, make_caller, tmp_path):
    path = tmp_path / "prices.json"
    path.write_text(json.dumps(PRICES))
    lots = dict.fromkeys(("limit_send", "limit_key", "limit_number", "limit_api"), "99999 per minute")
    app = make_app({"provider": ScriptedProvider()}, prices_file=path, allowed_countries=("US", "GB", "IN"), **lots)
    return make_caller(app, allowed_senders=["ACME", "ACMEIN", "12345", "+16135550100", LANDLINE])


def _rows(caller):
    return [count_rows(caller.app.extensions["smsapi"].database, table) for table in ("messages", "events")]


def test_a_preview_tells_all_that_a_send_would_be(caller):
    text = "Prix: 5€ “net” ☃"
    preview = caller.post("/v1/messages/preview", {"to": TO, "text": text}).get_json()
    assert preview == {
        "would_send": True,
        "refusals": [],
        "encoding": "ucs2",
        "segments": 1,
        "characters": len(text),
        "non_gsm_characters": ["“", "”", "☃"],
        "text": text,
        "price": {"amount": "0.00790", "currency": "USD", "estimated": True},
        "country": "US",
        "from": LANDLINE,
    }


def test_a_preview_shows_the_text_as_it_would_leave(caller):
    body = {"to": "+447400123456", "text": "“Hi”…", "from": "ACME", "smart_encoding": True}
    preview = caller.post("/v1/messages/preview", body).get_json()
    assert (preview["text"], preview["encoding"], preview["non_gsm_characters"]) == ('"Hi"...', "gsm7", [])
    assert (preview["from"], preview["country"], preview["price"]["amount"]) == ("ACME", "GB", "0.04000")


def test_a_preview_without_a_sender_says_so(make_app, make_caller):
    caller = make_caller(make_app(plivo_sender_id=None))
    preview = caller.post("/v1/messages/preview", {"to": TO, "text": "x"}).get_json()
    assert (preview["would_send"], preview["from"]) == (False, None)
    assert [refusal["code"] for refusal in preview["refusals"]] == ["sender_not_allowed"]


def test_a_preview_sends_and_stores_nothing(caller):
    before = _rows(caller)
    for _ in range(2):
        answer = caller.post("/v1/messages/preview", {"to": TO, "text": "x"}, Idempotency_Key="k", Prefer="wait=1")
        assert answer.status_code == 200
        assert not {"Location", "Preference-Applied", "Idempotent-Replayed"} & set(answer.headers.keys())
    assert _rows(caller) == before == [0, 0]
    assert count_rows(caller.app.extensions["smsapi"].database, "idempotency_keys") == 0
    assert caller.app.extensions["smsapi"].provider.calls == []


def test_what_a_preview_foretells_is_what_a_send_does(caller):
    calls = caller.app.extensions["smsapi"].provider.calls

    @settings(max_examples=many(40), suppress_health_check=list(HealthCheck))
    @given(_ORDERS)
    def check(order):
        before, asked = _rows(caller), len(calls)
        preview = caller.post("/v1/messages/preview", order)
        assert (_rows(caller), len(calls)) == (before, asked)
        sent = caller.post("/v1/messages", order)
        foretold, came = preview.get_json(), sent.get_json()
        if preview.status_code != 200:
            assert (sent.status_code, came["errors"]) == (preview.status_code, foretold["errors"])
        elif foretold["would_send"]:
            assert sent.status_code == 201
            same = ("text", "encoding", "segments", "price", "from")
            assert {name: came[name] for name in same} == {name: foretold[name] for name in same}
            assert (calls[-1].text, calls[-1].sender) == (foretold["text"], foretold["from"])
        else:
            first = foretold["refusals"][0]
            assert {name: came[name] for name in first} == first
            assert sent.status_code == 422
        taken = sent.status_code == 201
        assert len(calls) == asked + taken
        assert _rows(caller) == [before[0] + taken, before[1] + 2 * taken]

    check()


@pytest.mark.parametrize(
    ("text", "encoding", "segments"),
    [
        # Each is two septets, and no pair is parted: 76 of them in each part but the last.
        ("]" * 153, "gsm7", 3),
        ("]" * 152, "gsm7", 2),
        # Two code units each, of which a message alone has seventy.
        ("🐳" * 35, "ucs2", 1),
        ("🐳" * 35 + "!", "ucs2", 2),
        ("🐳" * 36, "ucs2", 2),
        ("a" * 139 + "{…", "ucs2", 3),
        ("a" * 139 + "{" * 84, "gsm7", 3),
        ("a" * 139 + "{" * 10, "gsm7", 1),
        # One character of its own makes the whole text UCS-2, and is told.
        ("one\u2028two", "ucs2", 1),
        ("a" * 69 + "\u2029\u2028", "ucs2", 2),
    ],
)
def test_segments_are_those_that_are_billed_where_calculators_went_wrong(caller, text, encoding, segments):
    seen = caller.post("/v1/messages/preview", {"to": TO, "text": text}).get_json()
    assert (seen["encoding"], seen["segments"], seen["text"]) == (encoding, segments, text)
    assert ("\u2028" in seen["non_gsm_characters"]) == ("\u2028" in text)
