"""The magic numbers, held against the contract's section 11."""

import pytest

from smsapi.plivo.magic import Answer, behaviour_of

NUMBER = "+1415555"


def story(digits: str) -> list[tuple[str, str | None]]:
    return [(receipt.status, receipt.error_code) for receipt in behaviour_of(NUMBER + digits).receipts]


@pytest.mark.parametrize("digits", ["0001", "4242", "0000", "0012"])
def test_an_ordinary_number_is_delivered_after_one_second(digits):
    behaviour = behaviour_of(NUMBER + digits)

    assert [behaviour.answer(attempt) for attempt in (1, 2, 9)] == [Answer.ACCEPTED] * 3
    assert story(digits) == [("sent", None), ("delivered", None)]
    assert behaviour.receipts[-1].delay_seconds == 1


@pytest.mark.parametrize(
    ("digits", "answers"),
    [
        ("0002", [Answer.ACCEPTED] * 4),
        ("0003", [Answer.BAD_REQUEST] * 4),
        ("0004", [Answer.ACCEPTED] * 4),
        ("0005", [Answer.THROTTLED, Answer.THROTTLED, Answer.ACCEPTED, Answer.ACCEPTED]),
        ("0006", [Answer.SERVER_ERROR, Answer.SERVER_ERROR, Answer.ACCEPTED, Answer.ACCEPTED]),
        ("0007", [Answer.ANSWER_LOST] * 4),
        ("0008", [Answer.NO_ANSWER] * 4),
        ("0009", [Answer.ACCEPTED] * 4),
        ("0010", [Answer.ACCEPTED] * 4),
        ("0011", [Answer.NO_CREDIT] * 4),
    ],
)
def test_the_last_four_digits_choose_the_answers(digits, answers):
    behaviour = behaviour_of(NUMBER + digits)

    assert [behaviour.answer(attempt) for attempt in (1, 2, 3, 4)] == answers


@pytest.mark.parametrize(
    ("digits", "receipts"),
    [
        ("0002", [("sent", None), ("undelivered", "30")]),
        ("0003", []),
        ("0004", [("failed", "200")]),
        ("0007", [("sent", None), ("delivered", None)]),
        ("0009", []),
        ("0010", [("delivered", None), ("sent", None), ("delivered", None), ("sent", None)]),
        ("0011", []),
    ],
)
def test_the_last_four_digits_choose_the_receipts(digits, receipts):
    assert story(digits) == receipts


def test_a_lost_answer_means_taken_and_silence_means_not_taken():
    taken = {answer for answer in Answer if answer.is_taken}

    assert taken == {Answer.ACCEPTED, Answer.ANSWER_LOST}


def test_the_plus_sign_makes_no_difference():
    assert behaviour_of("14155550002") is behaviour_of("+14155550002")


def test_receipts_out_of_order_still_tell_their_true_order():
    in_true_order = sorted(behaviour_of("+14155550010").receipts, key=lambda receipt: receipt.sequence)

    assert [receipt.status for receipt in in_true_order] == ["sent", "sent", "delivered", "delivered"]


def test_a_message_never_goes_back_from_what_it_reached():
    behaviour = behaviour_of("+14155550010")

    assert behaviour.reached(0) is None
    assert {behaviour.reached(seconds).status for seconds in (0.1, 0.5, 0.8, 1, 100)} == {"delivered"}


def test_attempts_are_counted_from_one():
    with pytest.raises(ValueError, match="from 1"):
        behaviour_of("+14155550001").answer(0)
