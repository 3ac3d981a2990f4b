"""Limits hold for batches too: for the texts to one number, for all texts of an hour or a day, for what waits."""

from datetime import UTC, datetime

import orjson
import pytest
import redis

from smsapi.clock import ManualClock
from smsapi.errors import StoreUnavailable
from smsapi.limits.redis import RedisStore
from tests.conftest import eventually, free_port
from tests.support.far_side import FailingDatabase
from tests.support.limits import left, send
from tests.support.uploading import CSV, LINES, Held, left_behind, numbers, rejects, stream, upload

ONE, OTHER = numbers(2)


@pytest.fixture(params=["memory", "redis", "fallback"])
def limits_in(request):
    """Each store of limits in turn."""
    return request.param


@pytest.fixture
def database_url(request):
    """Each database, with another store of limits: neither knows of the other."""
    is_on_sqlite = "limits_in" in request.fixturenames and request.getfixturevalue("limits_in") != "redis"
    return request.getfixturevalue("sqlite_url" if is_on_sqlite else "postgres_url")


@pytest.fixture
def limited(limits_in, request, make_app, make_caller):
    """Make a caller of an app with these limits, on each store of limits in turn."""

    def make(**settings):
        if limits_in == "redis":
            url = request.getfixturevalue("redis_url")
            with redis.Redis.from_url(url) as client:
                client.flushdb()
            # The server's time is its own: windows are long enough here for nothing to drain.
            settings |= {"redis_url": url, "redis_timeout_seconds": 2.0}
        elif limits_in == "fallback":
            settings |= {"redis_url": f"redis://127.0.0.1:{free_port()}/0", "workers": 1}
        return make_caller(make_app(**settings))

    return make


def in_form(caller, form, *rows, **fields):
    """Send a batch to these numbers in one of the three forms."""
    headers = fields.pop("headers", {})
    if form == "json":
        body = {"text": "Hello", "recipients": [{"to": row} for row in rows], **fields}
        given = {"X-API-Key": caller.key, "Content-Type": "application/json", **headers}
        return caller.app.test_client().post("/v1/batches", data=orjson.dumps(body), headers=given)
    query = {name: str(value).lower() for name, value in fields.items()}
    if form == "csv":
        return upload(caller, "to\n" + "".join(f"{row}\n" for row in rows), kind=CSV, headers=headers, **query)
    lines = "".join(orjson.dumps({"to": row}).decode() + "\n" for row in rows)
    return upload(caller, lines, kind=LINES, headers=headers, **query)


FORMS = ("json", "csv", "lines")


def counts(answer):
    assert answer.status_code == 202, answer.text
    found = answer.get_json()
    return found["accepted"], found["rejected"]


@pytest.mark.parametrize("form", FORMS)
def test_many_batches_to_one_number_are_held_to_its_limit(limited, form):
    caller = limited(limit_number="2 per hour; 3 per day")
    taken = [counts(in_form(caller, form, ONE)) for _ in range(20)]
    assert taken == [(1, 0)] * 2 + [(0, 1)] * 18
    # Other numbers are not touched by it, nor are other rows of the same batch.
    answer = in_form(caller, form, ONE, OTHER)
    assert counts(answer) == (1, 1)
    assert rejects(caller, answer.get_json()["id"]) == [(2 if form == "csv" else 1, ONE, "rate_limited")]


def test_a_number_has_one_limit_for_rows_and_for_single_messages(limited):
    caller = limited(limit_number="3 per day")
    assert counts(in_form(caller, "csv", ONE)) == (1, 0)
    assert send(caller, ONE).status_code == 202
    assert counts(in_form(caller, "lines", ONE, OTHER)) == (2, 0)
    assert send(caller, ONE).status_code == 429
    assert counts(in_form(caller, "json", ONE, OTHER)) == (1, 1)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("limit", ["limit_send", "limit_key"])
def test_an_hour_and_more_counts_texts_and_takes_a_batch_whole_or_not_at_all(limited, form, limit):
    caller = limited(**{limit: "100 per minute; 5 per day"})
    day = f"{limit.removeprefix('limit_')}-day"
    database = caller.app.extensions["smsapi"].database
    refused = in_form(caller, form, *numbers(6))
    assert (refused.status_code, refused.get_json()["code"]) == (429, "rate_limited")
    assert int(refused.headers["Retry-After"]) > 0
    assert left_behind(database) == {}
    # What was refused has spent nothing; a dry run says the same of both, and spends nothing either.
    assert in_form(caller, form, *numbers(6), dry_run=True).status_code == 429
    assert in_form(caller, form, *numbers(5), dry_run=True).status_code == 200
    taken = in_form(caller, form, *numbers(4))
    assert counts(taken) == (4, 0)
    assert left(taken)[day] == 1
    assert in_form(caller, form, *numbers(2)).status_code == 429
    assert send(caller, OTHER).status_code == 202
    assert send(caller, OTHER).status_code == 429
    assert in_form(caller, form, ONE).status_code == 429


def test_shorter_windows_count_a_batch_as_one_request(limited):
    caller = limited(limit_send="2 per 59 minute")
    assert counts(in_form(caller, "csv", *numbers(50))) == (50, 0)
    assert counts(in_form(caller, "lines", *numbers(50, start=50))) == (50, 0)
    assert in_form(caller, "json", ONE).status_code == 429


def test_only_accepted_rows_are_counted(limited):
    caller = limited(limit_send="2 per day", limit_number="1 per day")
    opted_out = caller.app.test_client().put(f"/v1/opt-outs/{numbers(3)[2]}", headers={"X-API-Key": caller.key})
    assert opted_out.status_code == 200
    answer = in_form(caller, "csv", "nonsense", ONE, OTHER, ONE, "+1", numbers(3)[2])
    assert counts(answer) == (2, 3)
    assert in_form(caller, "csv", numbers(4)[3]).status_code == 429


@pytest.mark.parametrize("form", FORMS)
def test_what_an_all_or_nothing_batch_spent_is_given_back(limited, form):
    caller = limited(limit_send="3 per day", limit_number="1 per day")
    for _ in range(3):
        refused = in_form(caller, form, ONE, "nonsense", OTHER, all_or_nothing=True)
        assert refused.get_json()["code"] == "batch_rejected"
    assert counts(in_form(caller, form, ONE, OTHER, all_or_nothing=True)) == (2, 0)
    # A number over its limit is a bad row like any other.
    refused = in_form(caller, form, numbers(3)[2], OTHER, all_or_nothing=True)
    assert refused.get_json()["code"] == "batch_rejected"
    assert counts(in_form(caller, form, numbers(3)[2])) == (1, 0)


def test_what_a_large_all_or_nothing_batch_spent_is_given_back_in_every_piece(limited):
    caller = limited(limit_number="1 per day", limit_send="20000 per day")
    many = numbers(6_000)
    refused = in_form(caller, "csv", *many, "nonsense", all_or_nothing=True)
    assert refused.get_json()["code"] == "batch_rejected"
    assert counts(in_form(caller, "csv", *many)) == (6_000, 0)
    assert counts(in_form(caller, "csv", *many)) == (0, 6_000)


def test_a_repetition_under_its_key_is_not_counted_again(limited):
    caller = limited(limit_send="2 per day", limit_number="1 per day")
    key = {"Idempotency-Key": "once"}
    first = in_form(caller, "csv", ONE, headers=key)
    for _ in range(3):
        again = in_form(caller, "csv", ONE, headers=key)
        assert (again.status_code, again.get_json()["id"]) == (202, first.get_json()["id"])
        assert again.headers["Idempotent-Replayed"] == "true"
    assert counts(in_form(caller, "csv", OTHER)) == (1, 0)
    assert in_form(caller, "csv", numbers(3)[2]).status_code == 429


def test_an_upload_that_breaks_off_gives_back_what_it_spent(limited):
    caller = limited(limit_number="1 per day")
    many = numbers(6_000)
    content = ("to\n" + "".join(f"{number}\n" for number in many)).encode()
    held = Held(content, b"")
    held.go_on.set()
    broken = stream(caller, held, length=len(content) + 100)
    assert broken.get_json()["code"] == "body_incomplete"
    assert counts(in_form(caller, "csv", *many)) == (6_000, 0)


@pytest.mark.parametrize("key", [{}, {"Idempotency-Key": "again"}])
def test_a_store_that_is_lost_at_the_end_leaves_nothing_spent(make_app, make_caller, database_url, key):
    database = FailingDatabase(database_url)
    app = make_app({"database": database}, limit_number="1 per day", limit_send="2 per day")
    caller = make_caller(app)
    # What opens it passes, and its last transaction is lost.
    database.fail(1, after=1)
    assert in_form(caller, "csv", ONE, OTHER, headers=key).get_json()["code"] == StoreUnavailable.code
    assert counts(in_form(caller, "csv", ONE, OTHER, headers=key)) == (2, 0)
    assert in_form(caller, "csv", numbers(3)[2]).status_code == 429


class Died(BaseException):
    """The process is gone at that moment: nothing of it runs any more."""


def test_an_upload_whose_process_died_is_not_counted_twice_under_its_key(make_app, make_caller, clock, redis_url):
    died = []

    def die_once(name):
        if name == "upload.accepting" and not died:
            died.append(name)
            raise Died

    with redis.Redis.from_url(redis_url) as client:
        client.flushdb()
    limits = RedisStore(redis_url, timeout_seconds=2.0)
    replaced = {"checkpoint": die_once, "clock": clock, "limits": limits, "strict_limits": limits}
    caller = make_caller(make_app(replaced, limit_number="1 per day"))
    key = {"Idempotency-Key": "again"}
    with pytest.raises(Died):
        in_form(caller, "csv", ONE, OTHER, headers=key)
    clock.advance(61)
    assert counts(in_form(caller, "csv", ONE, OTHER, headers=key)) == (2, 0)
    assert counts(in_form(caller, "csv", ONE)) == (0, 1)


@pytest.fixture
def clock():
    return ManualClock(datetime.now(UTC))


def test_what_waits_of_one_client_has_a_bound(make_app, make_caller):
    app = make_app(batch_max_waiting_rows=2_000)
    caller, other = make_caller(app), make_caller(app, name="other")
    # A thousand of them are messages at once.
    assert counts(in_form(caller, "csv", *numbers(1_500))) == (1_500, 0)
    for form in FORMS:
        refused = in_form(caller, form, *numbers(1_501, start=1_500))
        assert (refused.status_code, refused.get_json()["code"]) == (429, "rate_limited")
        assert "2000" in refused.get_json()["detail"]
        assert int(refused.headers["Retry-After"]) > 0
    assert left_behind(app.extensions["smsapi"].database) == {"batches": 1, "batch_rows": 500, "messages": 1_000}
    assert in_form(caller, "csv", *numbers(1_501), dry_run=True).status_code == 200
    assert counts(in_form(other, "csv", *numbers(2_000))) == (2_000, 0)
    # What is called off waits no more.
    *_, batch = caller.get("/v1/batches").get_json()["data"]
    caller.post(f"/v1/batches/{batch['id']}/cancel", {})
    assert counts(in_form(caller, "csv", *numbers(1_501, start=1_500))) == (1_501, 0)


def test_rows_that_are_no_messages_yet_count_in_how_full_the_queue_is(make_app, make_caller):
    caller = make_caller(make_app(queue_max_depth=1_200))
    assert counts(in_form(caller, "csv", *numbers(1_300))) == (1_300, 0)
    # How full it is is looked up every two seconds, and on a slow machine less often.
    eventually(lambda: in_form(caller, "csv", ONE).status_code == 503, seconds=60)
    for form in FORMS:
        full = in_form(caller, form, ONE)
        assert (full.status_code, full.get_json()["code"]) == (503, "queue_full")
    assert send(caller, ONE).status_code == 202
