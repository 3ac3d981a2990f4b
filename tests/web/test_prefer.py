"""The Prefer header (RFC 7240), by its grammar and through the front door."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smsapi.web.prefer import Preference, read_prefer
from tests.support.far_side import ScriptedProvider

_DEFAULT = Preference(10, None)
_ASYNC = Preference(None, "respond-async")


def _wait(seconds):
    return Preference(seconds, f"wait={seconds}")


@pytest.mark.parametrize(
    ("header", "meaning"),
    [
        ("", _DEFAULT),
        ("respond-async", _ASYNC),
        ("Respond-Async", _ASYNC),
        (' respond-async=""', _ASYNC),
        ("respond-async; x=y", _ASYNC),
        ("return=minimal, respond-async", _ASYNC),
        ("respond-async=false", _DEFAULT),
        ("respond-asynchronously", _DEFAULT),
        ("wait=5", _wait(5)),
        ("WAIT = 5", _wait(5)),
        ('wait="5"', _wait(5)),
        ("wait=5; because=later", _wait(5)),
        ("wait=0", _wait(0)),
        ("wait=30", _wait(30)),
        ("wait=31", _wait(30)),
        ("wait=999999999", _wait(30)),
        ("wait=007", _wait(7)),
        ("wait=5, wait=20", _wait(5)),
        ("respond-async, wait=10", _wait(10)),
        ("wait=10,respond-async", _wait(10)),
        ("wait", _DEFAULT),
        ("wait=", _DEFAULT),
        ("wait=-1", _DEFAULT),
        ("wait=1.5", _DEFAULT),
        ("wait=٣", _DEFAULT),
        ("wait=1e1", _DEFAULT),
        ("wait=later, respond-async", _ASYNC),
        ('note="a, respond-async, b"', _DEFAULT),
        ('note="a\\", respond-async"', _DEFAULT),
        ('note="never closed, respond-async', _DEFAULT),
        ('note="a;b", wait=3', _wait(3)),
        (",,;,=,", _DEFAULT),
    ],
)
def test_a_preference_is_read_by_the_grammar_and_the_rest_ignored(header, meaning):
    assert read_prefer(header) == meaning


@given(st.text(alphabet='respond-async, wait=1;"\\ ', max_size=80))
def test_no_header_is_an_error_and_no_wait_is_too_long(header):
    found = read_prefer(header)
    assert found.wait_seconds is None or 0 <= found.wait_seconds <= 30
    assert (found.wait_seconds is None) == (found.applied == "respond-async")


@pytest.mark.parametrize("filler", [" ", '"', "\\", ",", "=", ";", 'a="\\', "wait=" + " "])
def test_a_long_header_takes_no_longer_than_its_length(filler):
    # Of this thread alone: on a busy machine others take their time meanwhile.
    began = time.thread_time()
    assert read_prefer(f'a={filler * 50_000}"x"').applied is None
    assert time.thread_time() - began < 2


@pytest.fixture
def database_url(sqlite_url):
    """The header does not depend on the store."""
    return sqlite_url


def test_the_answer_says_which_preference_was_honoured(make_app, make_caller):
    caller = make_caller(make_app({"provider": ScriptedProvider()}))
    for prefer, status, applied in (
        (None, 201, None),
        ("wait=20", 201, "wait=20"),
        ("wait=120", 201, "wait=30"),
        ("respond-async", 202, "respond-async"),
        ("handling=strict", 201, None),
    ):
        sent = caller.send(headers={} if prefer is None else {"Prefer": prefer})
        assert (sent.status_code, sent.headers.get("Preference-Applied")) == (status, applied)
        assert sent.headers["Location"] == f"/v1/messages/{sent.get_json()['id']}"
