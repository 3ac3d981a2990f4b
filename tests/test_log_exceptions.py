"""Exceptions in the log: where they came from and what they are, and never what they say of a message."""

import json
import subprocess
import sys
from datetime import UTC
from pathlib import Path

import pytest

from smsapi.log import reason_of, trace_of
from tests.support.command import environment

ROOT = Path(__file__).parents[1]
SECRETS = ("zanzibar", "codeword", "4155559876", "hunter2")

# Given to the interpreter as a string, since from Python 3.13 on a traceback quotes such code, too.
FAILING = """
import json, sys
from datetime import datetime
from decimal import Decimal
from importlib import import_module
from uuid import UUID
from marshmallow import ValidationError
from requests import ConnectionError as NoConnection
from smsapi.app import create_app
from smsapi.errors import NotFound
from smsapi.settings import read_settings
from tests.conftest import AUTH_ID, AUTH_TOKEN, JWT_SECRET, new_caller
from tests.support.api import LANDLINE

SAID = "codeword zanzibar … to +14155559876 by smsk_live_0123456789abcdef0123456789abcdef_zanzibar"

class Speaks(str):
    def __str__(self):
        raise ValueError("codeword zanzibar")

class Silent(TypeError):
    def __str__(self):
        raise ValueError("codeword zanzibar")

def noted(error):
    error.add_note("codeword zanzibar +14155559876")
    return error

def by(error, cause):
    error.__cause__ = cause
    return error

RAISED = [
    kind(SAID)
    for kind in (KeyError, ValueError, TypeError, AttributeError, NameError, ImportError, OSError, StopIteration)
] + [
    TypeError("'codeword zanzibar' object is not callable"),
    TypeError("f() got an unexpected keyword argument 'codeword zanzibar'"),
    TypeError("expected a name, not 'zanzibar'"),
    AttributeError("zanzibar"),
    Silent(SAID),
    TypeError(Speaks()),
    OSError(5, SAID, "codeword", None, SAID),
    OSError(5, SAID),
    UnicodeEncodeError("utf-8", SAID + chr(0xD800), len(SAID), len(SAID) + 1, SAID),
    UnicodeDecodeError("utf-8", SAID.encode(), 0, 1, SAID),
    ValidationError({"to": [SAID]}),
    NoConnection("http://x/?to=14155559876&zanzibar"),
    ExceptionGroup(SAID, [ValueError(SAID), ExceptionGroup(SAID, [TypeError(SAID)])]),
    noted(ValueError()),
    noted(NotFound("There is no +14155559876.")),
    by(RuntimeError(SAID), by(TypeError(SAID), noted(KeyError(SAID)))),
    by(NotFound("Nothing."), ExceptionGroup(SAID, [NotFound("+14155559876")])),
]

def wrong(zanzibars=0): ...

FOUND = [
    lambda: {}[SAID],
    lambda: int(SAID),
    lambda: getattr(sys, SAID),
    lambda: wrong(**{SAID: 1}),
    lambda: SAID + 1,
    lambda: SAID(),
    lambda: SAID.encode("ascii"),
    lambda: json.loads(SAID),
    lambda: datetime.fromisoformat(SAID),
    lambda: Decimal(SAID),
    lambda: UUID(SAID),
    lambda: import_module(SAID),
    lambda: open(SAID),
    lambda: "{0.zanzibar codeword}".format(SAID),
    lambda: max(
        "codeword zanzibar",
        "+14155559876",
        1,
    ),
]

def raises(error):
    raise error

todo = [lambda error=error: raises(error) for error in RAISED] + FOUND
failed = iter(todo)
settings = read_settings(
    {}, database_url=sys.argv[1], plivo_auth_id=AUTH_ID, plivo_auth_token=AUTH_TOKEN, plivo_sender_id=LANDLINE,
    jwt_secret=JWT_SECRET, plivo_url="http://127.0.0.1:9", plivo_requests_per_5s=0.0,
    limit_number="1000 per minute",
)
app = create_app(settings, checkpoint=lambda name: next(failed)() if name == "call.before" else None)
caller = new_caller(app)
for _ in todo:
    answer = caller.post("/v1/messages", {"to": "+14155559876", "text": SAID})
    print(answer.status_code, answer.get_json()["code"])
app.extensions["smsapi"].executor.shutdown()
app.extensions["smsapi"].database.close()
"""


def ran(program, *arguments):
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )


def test_whatever_is_raised_within_a_request_is_logged_without_what_it_says(sqlite_url):
    ended = ran(FAILING, sqlite_url)
    answers = ended.stdout.splitlines()
    assert len(answers) > 30, ended.stderr
    assert set(answers) == {"500 internal_error", "404 not_found"}
    lines = [json.loads(line) for line in ended.stderr.splitlines()]
    logged = [line["exception"] for line in lines if "exception" in line]
    assert len(logged) == answers.count("500 internal_error")
    assert all('File "<string>", line' in each for each in logged)
    for secret in SECRETS:
        assert secret not in ended.stderr + ended.stdout, [line for line in lines if secret in str(line)]


UNCAUGHT = """
import logging, sys, threading
from smsapi.settings import read_settings
from smsapi.working import prepare_process

SAID = "codeword zanzibar to +14155559876"
prepare_process(read_settings({}))

class Held:
    def __del__(self):
        raise KeyError("codeword zanzibar", SAID)

    def __repr__(self):
        return SAID

class Unspoken:
    def __str__(self):
        raise ValueError("codeword zanzibar", SAID)

def fail():
    raise KeyError("codeword zanzibar", SAID)

thread = threading.Thread(target=fail)
thread.start()
thread.join()
held = Held()
del held
library = logging.getLogger("library")
library.warning("gave up: %s after %d tries", ConnectionError(SAID), 3)
library.warning("gave up: %r", TypeError(SAID))
library.warning("not a number: %d", SAID)
library.warning("not to be told: %s", Unspoken())
library.warning("too few: %s %s", SAID)
fail()
"""


def test_what_nobody_catches_is_one_line_without_what_it_says_and_so_is_what_a_library_logs():
    ended = ran(UNCAUGHT)
    lines = [json.loads(line) for line in ended.stderr.splitlines()]
    events = ["uncaught", "uncaught", "gave up: ConnectionError after 3 tries", "gave up: 'TypeError'"]
    assert [line["event"] for line in lines] == [*events, "log_failed", "log_failed", "log_failed", "uncaught"]
    assert [line["logger"] for line in lines if line["event"] == "log_failed"] == ["library"] * 3
    assert [line["exception"].splitlines()[-1] for line in lines if line["event"] == "uncaught"] == ["KeyError"] * 3
    for secret in SECRETS:
        assert secret not in ended.stderr


class Thing:
    @staticmethod
    def act(one, *, other):
        return one[other]


@pytest.mark.parametrize(
    ("mistake", "logged"),
    [
        (lambda: None.text, "AttributeError: 'NoneType' object has no attribute 'text'"),
        (lambda: json.text, "AttributeError: module 'json' has no attribute 'text'"),
        (lambda: nothing, "NameError: name 'nothing' is not defined"),  # noqa: F821
        (lambda: __import__("json.nothing"), "ModuleNotFoundError: No module named 'json.nothing'"),
        (lambda: Thing.act(other=1), "TypeError: Thing.act() missing 1 required positional argument: 'one'"),
        (lambda: Thing.act(1, zebra=1), "TypeError: Thing.act() got an unexpected keyword argument 'zebra'"),
        (lambda: Thing.act(1, 2), "TypeError: Thing.act() takes 1 positional argument but 2 were given"),
        (lambda: Thing.act(None, other=1), "TypeError: 'NoneType' object is not subscriptable"),
        (lambda: 1 + "1", "TypeError: unsupported operand type(s) for +: 'int' and 'str'"),
        (lambda: "1" + 1, 'TypeError: can only concatenate str (not "int") to str'),
        (
            lambda: UTC < None,
            "TypeError: '<' not supported between instances of 'datetime.timezone' and 'NoneType'",
        ),
        (lambda: hash([]), "TypeError: unhashable type: 'list'"),
        (lambda: float(None), "TypeError: float() argument must be a string or a real number, not 'NoneType'"),
        (lambda: Path("/nowhere").stat(), "FileNotFoundError: No such file or directory"),
        (lambda: int("hunter2"), "ValueError"),
        (lambda: {}["hunter2"], "KeyError"),
    ],
)
def test_the_interpreters_own_sentence_about_the_program_is_logged(mistake, logged):
    with pytest.raises(Exception) as raised:
        mistake()
    assert reason_of(raised.value) == logged


def test_what_python_3_13_suggests_of_the_programs_names_is_logged_too():
    sentence = "Thing.act() got an unexpected keyword argument 'oher'"
    with pytest.raises(TypeError) as raised:
        Thing.act(1, oher=1)
    assert reason_of(raised.value) in {f"TypeError: {sentence}", f"TypeError: {sentence}. Did you mean 'other'?"}
    suggested = TypeError(f"{sentence}. Did you mean 'other'?")
    assert reason_of(suggested) == f"TypeError: {suggested}"


def test_a_traceback_in_the_log_is_places_only_and_repeats_none_of_them_for_ever():
    def down(left):
        return down(left - 1) if left else {}["hunter2"]

    with pytest.raises(KeyError) as raised:
        down(200)
    lines = trace_of(raised.value).splitlines()
    assert lines[-1] == "KeyError"
    assert any("repeated" in line for line in lines)
    assert len(lines) < 12
    assert all(line.startswith(f'  File "{__file__}", line ') for line in lines[:-1] if "repeated" not in line)
    assert ".<locals>.down" in lines[1]
    assert "hunter2" not in "".join(lines)
