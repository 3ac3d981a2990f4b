"""A look-up that is remembered for a moment: one at a time, whoever asks, and what comes late is not lost."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from smsapi.errors import StoreUnavailable
from smsapi.remembered import REMEMBER_AT_MOST_SECONDS, Remembered
from tests.conftest import eventually


class Looking:
    """A look that counts, and waits where it is told to."""

    def __init__(self):
        self.times = 0
        self.may_end = threading.Event()
        self.may_end.set()

    def __call__(self):
        self.times += 1
        number = self.times
        assert self.may_end.wait(60)
        return number


def test_many_who_ask_at_once_share_one_look():
    look = Looking()
    look.may_end.clear()
    remembered = Remembered(look, patience_seconds=60)
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(remembered.get) for _ in range(8)]
        eventually(lambda: look.times)
        look.may_end.set()
        assert {each.result() for each in asked} == {1}


def test_what_is_forgotten_is_looked_up_anew_and_an_older_look_is_not_believed():
    look = Looking()
    look.may_end.clear()
    remembered = Remembered(look, patience_seconds=0.01)
    with pytest.raises(StoreUnavailable):
        remembered.get()
    remembered.forget()
    look.may_end.set()
    assert eventually(lambda: answer_of(remembered)) >= 2


def answer_of(remembered):
    try:
        return remembered.get()
    except StoreUnavailable:
        return None


def test_an_answer_that_came_too_late_is_there_for_the_next_and_none_is_asked_beside_it():
    look = Looking()
    look.may_end.clear()
    remembered = Remembered(look, patience_seconds=0.01)
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            remembered.get()
    assert look.times == 1
    look.may_end.set()
    assert eventually(lambda: answer_of(remembered))


def test_what_a_look_raises_is_raised_and_not_remembered():
    answers = iter([RuntimeError("a bug of ours"), 7])

    def look():
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    remembered = Remembered(look)
    with pytest.raises(RuntimeError, match="a bug of ours"):
        remembered.get()
    assert remembered.get() == 7


def test_what_a_store_that_stood_still_said_at_last_is_not_believed_for_long(monkeypatch):
    passed = [0.0]

    def look():
        passed[0] += 40 if not passed[0] else 0
        return passed[0]

    monkeypatch.setattr("smsapi.remembered.time", SimpleNamespace(monotonic=lambda: time.monotonic() + passed[0]))
    remembered = Remembered(look, patience_seconds=60)
    assert remembered.get() == 40
    passed[0] += REMEMBER_AT_MOST_SECONDS
    assert remembered.get() == 40 + REMEMBER_AT_MOST_SECONDS
