"""One batch for each Idempotency-Key: repeated, raced, interrupted, taken over."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import chain

import pytest
from sqlalchemy import update

from smsapi.batches.intake import forget_abandoned
from smsapi.batches.models import batches
from smsapi.clock import ManualClock
from tests.support.uploading import Held, left_behind, numbers, stream, upload

A, B, C = numbers(3)
KEY = {"Idempotency-Key": "k"}
FILE = f"to\n{A}\n{B}\n"


class Killed(BaseException):
    """Stands for the death of the process: nothing after it runs that catches exceptions."""


@pytest.fixture
def clock():
    return ManualClock(datetime.now(UTC))


def store_of(app):
    return app.extensions["smsapi"].database


def dying_at(point):
    """Return a checkpoint at which the first who passes dies, and nobody after it."""
    struck = threading.Event()

    def pass_by(name):
        if name == point and not struck.is_set():
            struck.set()
            raise Killed

    return pass_by


def test_the_same_key_and_file_get_the_same_answer_and_make_nothing(app, caller):
    first = upload(caller, FILE, headers=KEY)
    before = left_behind(store_of(app))
    again = upload(caller, FILE, headers=KEY)
    assert (again.status_code, again.data) == (202, first.data)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.headers["Location"] == first.headers["Location"]
    assert "Idempotent-Replayed" not in first.headers
    assert left_behind(store_of(app)) == before


def test_a_file_is_the_same_however_it_is_packed_and_its_query_ordered(caller):
    first = upload(caller, FILE, headers=KEY, category="otp", max_segments="2")
    again = upload(caller, FILE, headers=KEY, packed=True, max_segments="2", category="otp")
    assert (again.data, again.headers["Idempotent-Replayed"]) == (first.data, "true")


@pytest.mark.parametrize("change", [{"body": f"to\n{A}\n{C}\n"}, {"text": "Other"}, {"dry_run": "true"}])
def test_another_file_or_another_query_with_the_key_is_refused(app, caller, change):
    upload(caller, FILE, headers=KEY)
    before = left_behind(store_of(app))
    answer = upload(caller, **{"body": FILE, **change}, headers=KEY)
    assert (answer.status_code, answer.get_json()["code"]) == (422, "idempotency_key_reused")
    assert left_behind(store_of(app)) == before


def test_json_has_its_keys_too_and_test_keys_have_others(app, caller, make_caller):
    body = {"text": "Hi", "recipients": [{"to": A}]}
    first = caller.post("/v1/batches", body, Idempotency_Key="k")
    again = caller.post("/v1/batches", body, Idempotency_Key="k")
    assert (again.data, again.headers["Idempotent-Replayed"]) == (first.data, "true")
    other = caller.post("/v1/batches", {**body, "text": "Ho"}, Idempotency_Key="k")
    assert other.get_json()["code"] == "idempotency_key_reused"
    assert caller.post("/v1/batches", body, Idempotency_Key="").status_code == 400
    assert upload(make_caller(app), FILE, headers=KEY).status_code == 202


def test_what_was_refused_or_only_checked_is_given_again_too(caller):
    for query in ({"all_or_nothing": "true"}, {"dry_run": "true"}):
        headers = {"Idempotency-Key": json.dumps(query).replace(" ", "")[2:9]}
        first = upload(caller, f"to\n{A}\n12345\n", headers=headers, **query)
        again = upload(caller, f"to\n{A}\n12345\n", headers=headers, **query)
        assert (again.status_code, again.data) == (first.status_code, first.data)
        assert again.headers["Idempotent-Replayed"] == "true"


def test_a_file_that_could_not_be_read_leaves_its_key_free(app, caller):
    assert upload(caller, f'to\n"{A}\n', headers=KEY).status_code == 422
    assert upload(caller, FILE, headers=KEY).status_code == 202


def test_a_repetition_stands_where_its_time_is_over_by_now(make_app, make_caller, clock):
    caller = make_caller(make_app({"clock": clock}))
    soon = (clock.now() + timedelta(seconds=60)).isoformat()
    first = upload(caller, FILE, headers=KEY, send_at=soon)
    clock.advance(120)
    again = upload(caller, FILE, headers=KEY, send_at=soon)
    assert (again.status_code, again.data) == (202, first.data)


def test_after_a_day_the_key_is_a_new_one(make_app, make_caller, clock):
    caller = make_caller(make_app({"clock": clock}))
    first = upload(caller, FILE, headers=KEY).get_json()
    clock.advance(86_401)
    second = upload(caller, FILE, headers=KEY)
    assert second.status_code == 202
    assert second.get_json()["id"] != first["id"]


def test_a_twin_of_an_upload_under_way_is_told_to_wait(app, caller):
    held = Held(b"to\n", f"{A}\n{B}\n".encode())
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(stream, caller, held, headers=KEY)
        assert held.reached.wait(20)
        twin = upload(caller, FILE, headers=KEY)
        other = upload(caller, FILE, headers={"Idempotency-Key": "other"})
        held.go_on.set()
        assert first.result(20).status_code == 202
    assert (twin.status_code, twin.get_json()["code"]) == (409, "idempotency_in_progress")
    assert int(twin.headers["Retry-After"]) >= 1
    assert other.status_code == 202
    again = upload(caller, FILE, headers=KEY)
    assert again.data == first.result().data
    assert left_behind(store_of(app)) == {"batches": 2, "messages": 4}


def test_two_that_begin_at_the_same_moment_make_one_batch(app, caller):
    start = threading.Barrier(6)

    def one(_):
        start.wait(20)
        return upload(caller, FILE, headers=KEY)

    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(one, range(6)))
    taken = {answer.data for answer in answers if answer.status_code == 202}
    assert {answer.status_code for answer in answers} <= {202, 409}
    assert len(taken) == 1
    assert left_behind(store_of(app)) == {"batches": 1, "messages": 2}


def test_an_upload_that_fell_silent_is_taken_over_and_then_cannot_be_accepted(make_app, make_caller, clock):
    app = make_app({"clock": clock})
    caller = make_caller(app)
    held = Held(b"to\n", f"{A}\n{B}\n".encode())
    with ThreadPoolExecutor(1) as threads:
        silent = threads.submit(stream, caller, held, headers=KEY)
        assert held.reached.wait(20)
        clock.advance(59)
        assert upload(caller, FILE, headers=KEY).status_code == 409
        clock.advance(2)
        second = upload(caller, FILE, headers=KEY)
        assert second.status_code == 202
        held.go_on.set()
        late = silent.result(20)
    # The other one was first to the end: both are told of its batch, and the silent one's is gone.
    assert late.get_json()["code"] == "idempotency_in_progress" or late.data == second.data
    assert left_behind(store_of(app)) == {"batches": 1, "messages": 2}


def test_an_upload_without_a_key_that_was_swept_away_is_told_so(make_app, make_caller, clock):
    app = make_app({"clock": clock})
    caller = make_caller(app)
    held = Held(b"to\n", f"{A}\n".encode())
    with ThreadPoolExecutor(1) as threads:
        silent = threads.submit(stream, caller, held)
        assert held.reached.wait(20)
        clock.advance(601)
        assert forget_abandoned(app.extensions["smsapi"], lambda: False) == 1
        held.go_on.set()
        answer = silent.result(20)
    assert (answer.status_code, answer.get_json()["code"]) == (503, "unavailable")
    assert left_behind(store_of(app)) == {}


def test_an_upload_that_is_just_being_swept_away_is_not_accepted(make_app, make_caller, clock):
    def give_up(step):
        if step == "upload.read":
            # As whoever sweeps writes it first, before the rows are deleted one by one.
            with store_of(app).transaction() as connection:
                connection.execute(
                    update(batches).values(idempotency_key=None, heard_at=clock.now() - timedelta(days=1))
                )

    app = make_app({"clock": clock, "checkpoint": give_up})
    answer = upload(make_caller(app), FILE)
    assert (answer.status_code, answer.get_json()["code"]) == (503, "unavailable")
    assert left_behind(store_of(app)) == {}


class Slow:
    """A file whose sender takes a quarter of a minute for each line."""

    def __init__(self, clock, lines):
        self._clock = clock
        self._lines = chain([b"to\n"], lines)

    def read(self, size=-1):
        del size
        self._clock.advance(15)
        return next(self._lines, b"")


def test_a_slow_upload_is_heard_of_and_never_swept_away(make_app, make_caller, clock):
    app = make_app({"clock": clock})
    caller, seen = make_caller(app), set()
    # In another process, as a request within a request would share what belongs to one.
    rival = replace(caller, app=make_app({"clock": clock}))

    def lines():
        for number in numbers(60):
            seen.add(forget_abandoned(app.extensions["smsapi"], lambda: False))
            seen.add(upload(rival, FILE, headers=KEY).status_code)
            yield f"{number}\n".encode()

    assert stream(caller, Slow(clock, lines()), headers=KEY).get_json()["accepted"] == 60
    assert seen == {0, 409}


@pytest.mark.parametrize("point", ["upload.opened", "upload.staged", "upload.read", "upload.accepting"])
def test_a_death_on_the_way_sends_nothing_and_is_made_good_by_the_next_try(make_app, make_caller, clock, point):
    body = "to\n" + "".join(f"{number}\n" for number in numbers(5_500))
    caller = make_caller(make_app({"clock": clock, "checkpoint": dying_at(point)}))
    with pytest.raises(Killed):
        upload(caller, body, headers=KEY)
    app = make_app({"clock": clock})
    survivor = replace(caller, app=app)
    (first,) = survivor.get("/v1/batches").get_json()["data"]
    assert (first["status"], sum(first["counts"].values())) == ("receiving", 0)
    assert upload(survivor, body, headers=KEY).status_code == 409
    clock.advance(61)
    second = upload(survivor, body, headers=KEY).get_json()
    assert (second["accepted"], second["id"] != first["id"]) == (5_500, True)
    assert left_behind(store_of(app)) == {"batches": 1, "batch_rows": 4_500, "messages": 1_000}


def test_a_death_after_the_acceptance_loses_only_the_answer(make_app, make_caller):
    caller = make_caller(make_app({"checkpoint": dying_at("upload.accepted")}))
    with pytest.raises(Killed):
        upload(caller, FILE, headers=KEY)
    again = upload(caller, FILE, headers=KEY)
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (202, "true")
    assert left_behind(store_of(caller.app)) == {"batches": 1, "messages": 2}


def test_what_was_never_finished_is_swept_away_after_ten_minutes(make_app, make_caller, clock):
    body = "to\n" + "".join(f"{number}\n" for number in ["1", *numbers(5_500)])
    caller = make_caller(make_app({"clock": clock, "checkpoint": dying_at("upload.read")}))
    with pytest.raises(Killed):
        upload(caller, body)
    world = make_app({"clock": clock}).extensions["smsapi"]
    clock.advance(599)
    assert forget_abandoned(world, lambda: False) == 0
    assert left_behind(world.database)["batch_rows"] > 4_000
    clock.advance(2)
    assert forget_abandoned(world, lambda: True) == 0
    assert forget_abandoned(world, lambda: False) == 1
    assert left_behind(world.database) == {}
