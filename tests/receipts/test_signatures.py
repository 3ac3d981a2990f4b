"""Only Plivo can report: by its V3 signature over the public URL, or by V2 where that is allowed."""

import pytest

from smsapi.plivo import signature
from tests.conftest import AUTH_TOKEN, new_caller
from tests.support.dispatching import row_of, world_of
from tests.support.plivo_calls import PUBLIC_URL, path_of, report, signed

V3 = (signature.V3, signature.MA_V3, signature.V3_NONCE)
V2 = (signature.V2, signature.MA_V2, signature.V2_NONCE)
DELIVERED = {"Status": "delivered", "MessageUUID": "5b40a428-bfc7-4daf-9d06-726c558bf3b8", "Units": "1"}


@pytest.fixture
def database_url(sqlite_url):
    """What is asked here is the edge; the stores have suites of their own."""
    return sqlite_url


@pytest.fixture
def sent(make_app):
    """Make an app and a message that it has sent."""

    def make(**settings):
        app = make_app(**{"public_url": PUBLIC_URL, **settings})
        caller = new_caller(app)
        answer = caller.send(to="+14155550009")  # of which Plivo never reports by itself
        assert answer.status_code == 201
        return app, caller, answer.get_json()

    return make


def only(headers, names):
    return {name: value for name, value in headers.items() if name in names}


def expect_refused(app, caller, message, answer):
    assert (answer.status_code, answer.get_json()["code"]) == (403, "signature_invalid")
    assert caller.message(message["id"]) == message
    assert len(caller.events(message["id"])) == 2
    assert row_of(world_of(app), message).status == "sent"


def test_a_report_with_a_good_signature_is_believed(sent):
    app, caller, message = sent()
    assert report(app, message["id"], DELIVERED, token=AUTH_TOKEN).status_code == 200
    assert caller.message(message["id"])["status"] == "delivered"


def test_the_public_url_may_have_a_path_that_a_proxy_takes_off(sent):
    url = "https://example.com/notify/sms"
    app, caller, message = sent(public_url=url)
    assert report(app, message["id"], DELIVERED, token=AUTH_TOKEN, public_url=url).status_code == 200
    assert caller.message(message["id"])["status"] == "delivered"


def test_what_a_proxy_makes_of_host_and_scheme_does_not_matter(sent):
    app, caller, message = sent(trusted_proxies=1)
    headers = signed(AUTH_TOKEN, PUBLIC_URL + path_of(message["id"]), DELIVERED) | {
        "Host": "smsapi-7f9c.internal:8000",
        "X-Forwarded-Host": "elsewhere.example.com",
        "X-Forwarded-Proto": "http",
        "X-Forwarded-For": "203.0.113.9",
    }
    assert report(app, message["id"], DELIVERED, token="", headers=headers).status_code == 200
    assert caller.message(message["id"])["status"] == "delivered"


def test_further_tokens_of_the_settings_may_sign(sent):
    further = ("the-old-auth-token", "the-main-accounts-token")
    app, caller, message = sent(plivo_signature_tokens=further)
    assert report(app, message["id"], {"Status": "sent"}, token=further[0]).status_code == 200
    assert report(app, message["id"], DELIVERED, token=further[1]).status_code == 200
    assert caller.message(message["id"])["status"] == "delivered"


WRONG = (
    lambda _headers: {},
    lambda headers: only(headers, V2),
    lambda headers: only(headers, (signature.V3_NONCE, *V2)),
    lambda headers: only(headers, (signature.V3, signature.MA_V3)),
    lambda headers: headers | {signature.V3_NONCE: "another"},
    lambda headers: headers | {signature.V3: "", signature.MA_V3: ""},
    lambda headers: headers | dict.fromkeys((signature.V3, signature.MA_V3), "AAAA"),
    lambda headers: headers | dict.fromkeys((signature.V3, signature.MA_V3), "ÿ, ä,,"),
    lambda headers: headers | dict.fromkeys((signature.V3, signature.MA_V3), headers[signature.V2]),
)


def test_a_missing_or_wrong_signature_is_403_and_changes_nothing(sent):
    app, caller, message = sent()
    for wrong in WRONG:
        headers = wrong(signed(AUTH_TOKEN, PUBLIC_URL + path_of(message["id"]), DELIVERED))
        expect_refused(app, caller, message, report(app, message["id"], DELIVERED, token="", headers=headers))


def test_a_signature_of_another_token_or_for_another_url_is_403(sent):
    app, caller, message = sent()
    for token, url in (
        ("another-account", PUBLIC_URL),
        ("", PUBLIC_URL),
        (AUTH_TOKEN, "http://sms.example.com"),
        (AUTH_TOKEN, "https://sms.example.com/prefix"),
        (AUTH_TOKEN, "http://localhost"),
    ):
        expect_refused(app, caller, message, report(app, message["id"], DELIVERED, token=token, public_url=url))


def test_a_signature_does_not_cover_another_body_or_another_message(sent):
    app, caller, message = sent()
    other = caller.send(to="+14155550009").get_json()
    headers = signed(AUTH_TOKEN, PUBLIC_URL + path_of(message["id"]), DELIVERED)
    changed = report(app, message["id"], DELIVERED | {"TotalAmount": "9.99"}, token="", headers=headers)
    expect_refused(app, caller, message, changed)
    elsewhere = report(app, other["id"], DELIVERED, token="", headers=headers)
    expect_refused(app, caller, other, elsewhere)


def test_without_a_public_url_nothing_is_believed(sent):
    app, caller, message = sent(public_url=None)
    expect_refused(app, caller, message, report(app, message["id"], DELIVERED, token=AUTH_TOKEN, public_url=""))


def test_v2_alone_is_believed_only_where_the_setting_says_so(sent):
    app, caller, message = sent(plivo_accept_v2_signatures=True)
    headers = only(signed(AUTH_TOKEN, PUBLIC_URL + path_of(message["id"]), {}), V2)
    assert report(app, message["id"], DELIVERED, token="", headers=headers).status_code == 200
    assert caller.message(message["id"])["status"] == "delivered"


def test_a_good_v2_signature_does_not_help_where_any_v3_header_is(sent):
    app, caller, message = sent(plivo_accept_v2_signatures=True)
    url = PUBLIC_URL + path_of(message["id"])
    for kept in V3:
        headers = only(signed("another-account", url, DELIVERED), (kept,)) | only(signed(AUTH_TOKEN, url, {}), V2)
        expect_refused(app, caller, message, report(app, message["id"], DELIVERED, token="", headers=headers))
