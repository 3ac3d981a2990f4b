"""How long a text may be, and what a caller will pay for it."""

import json

import pytest

from tests.support.api import TO
from tests.support.far_side import count_rows

PRICES = {"currency": "USD", "default": "0.05", "countries": {"US": "0.00790", "GB": "0.04"}}


@pytest.fixture
def database_url(sqlite_url):
    """Decided before anything is stored."""
    return sqlite_url


@pytest.fixture
def prices_file(tmp_path):
    path = tmp_path / "prices.json"
    path.write_text(json.dumps(PRICES))
    return path


def _code(response):
    return response.get_json().get("code", response.status_code)


@pytest.mark.parametrize(
    ("longest", "one_more"),
    [
        ("a" * 1600, "a" * 1601),
        ("€" * 800, "€" * 800 + "a"),
        ("a" * 1598 + "€", "a" * 1599 + "€"),
        ("☃" * 737, "☃" * 738),
        ("a" * 736 + "☃", "a" * 737 + "☃"),
        ("🎉" * 368 + "☃", "🎉" * 369),
    ],
    ids=["gsm7", "gsm7-extension", "gsm7-mixed", "ucs2", "ucs2-by-one", "ucs2-pairs"],
)
def test_the_longest_text_that_plivo_takes_is_sent_and_one_more_is_refused(
    app, make_caller, simulator, longest, one_more
):
    caller = make_caller(app)
    sent = caller.send(text=longest)
    assert sent.status_code == 201
    assert [taken.text for taken in simulator.store.taken()] == [longest]
    assert _code(caller.send(text=one_more)) == "text_too_long"
    assert count_rows(app.extensions["smsapi"].database, "messages") == 1
    assert simulator.store.count() == 1


def test_the_caps_are_settings(make_app, make_caller):
    caller = make_caller(make_app(gsm7_max_units=160, ucs2_max_units=70), mode="test")
    assert caller.send(text="a" * 160).status_code == 201
    assert _code(caller.send(text="a" * 161)) == "text_too_long"
    assert caller.send(text="☃" * 70).status_code == 201
    assert _code(caller.send(text="☃" * 71)) == "text_too_long"
    roomy = make_caller(make_app(gsm7_max_units=100_000), mode="test")
    assert roomy.send(text="a" * 100_000).get_json()["segments"] == 654


def test_smart_encoding_is_measured_as_it_leaves(app, make_caller, simulator):
    caller = make_caller(app)
    text = "“" * 1600
    assert _code(caller.send(text=text)) == "text_too_long"
    sent = caller.send(text=text, smart_encoding=True).get_json()
    assert (sent["text"], sent["encoding"], sent["segments"]) == ('"' * 1600, "gsm7", 11)
    assert simulator.store.taken()[0].text == '"' * 1600


def test_smart_encoding_never_leaves_an_empty_text(app, make_caller, simulator):
    caller = make_caller(app)
    invisible = "\u200b\u2060"
    preview = caller.post("/v1/messages/preview", {"to": TO, "text": invisible, "smart_encoding": True})
    # It would leave nothing of it, and nothing can be seen of it as it is.
    assert _code(preview) == _code(caller.send(text=invisible, smart_encoding=True)) == "validation_failed"
    assert simulator.store.taken() == []


def test_a_caller_may_bound_the_segments(app, make_caller):
    caller = make_caller(app, mode="test")
    edges = {"a" * 160: 1, "a" * 161: 2, "a" * 306: 2, "a" * 307: 3, "☃" * 70: 1, "☃" * 71: 2, "☃" * 135: 3}
    for text, segments in edges.items():
        assert caller.send(text=text, max_segments=segments).get_json()["segments"] == segments
        if segments > 1:
            assert _code(caller.send(text=text, max_segments=segments - 1)) == "too_many_segments"
    assert count_rows(app.extensions["smsapi"].database, "messages") == len(edges)


def test_a_caller_may_bound_the_price(make_app, make_caller, prices_file):
    caller = make_caller(make_app(prices_file=prices_file), mode="test")
    two = "a" * 161
    for enough in ("0.0158", "0.015800", 0.0158, 1, "0.01580"):
        sent = caller.send(text=two, max_price=enough)
        assert sent.get_json()["price"] == {"amount": "0.01580", "currency": "USD", "estimated": True}
    for too_little in ("0.0157", "0.015799", 0.01579, 0, "0"):
        assert _code(caller.send(text=two, max_price=too_little)) == "price_too_high"
    assert _code(caller.send(to="+33612345678", max_price="0.049999")) == "price_too_high"
    assert caller.send(to="+33612345678", max_price="0.05").status_code == 201
    assert count_rows(caller.app.extensions["smsapi"].database, "messages") == 6


def test_without_a_known_price_a_bound_is_not_kept_by_luck(app, make_caller, prices_file):
    caller = make_caller(app)
    assert _code(caller.send(max_price="999999")) == "price_too_high"
    assert caller.send().get_json()["price"] is None


def test_the_first_refusal_is_answered_and_a_preview_names_them_all(app, make_caller):
    caller = make_caller(app, allowed_countries=["GB"])
    body = {"to": TO, "text": "☃" * 738, "from": "ACME", "max_segments": 1, "max_price": "0"}
    assert _code(caller.post("/v1/messages", body)) == "sender_not_allowed"
    preview = caller.post("/v1/messages/preview", body).get_json()
    assert preview["would_send"] is False
    assert [refusal["code"] for refusal in preview["refusals"]] == [
        "sender_not_allowed",
        "country_not_allowed",
        "text_too_long",
        "too_many_segments",
        "price_too_high",
    ]
