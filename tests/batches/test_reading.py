"""Reading a body in pieces: wherever it is cut, the rows are the same; and the numbers that were seen."""

import gzip
import random
from itertools import groupby

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smsapi.batches.arriving import Body
from smsapi.batches.reading import CsvRows, JsonLines
from smsapi.batches.seen import Seen
from smsapi.csvfiles import restore
from smsapi.errors import InvalidInput, MalformedRequest, SmsapiError
from smsapi.sms.phone import unwrap_number
from tests.support.examples import many
from tests.support.uploading import numbers

CELL = st.text(st.characters(codec="utf-8", exclude_characters="\0\r\ufeff"), max_size=12)


def cut(content, at):
    """Return the content in pieces that end at these places."""
    ends = sorted({min(place, len(content)) for place in at})
    return [content[start:end] for start, end in zip([0, *ends], [*ends, len(content)], strict=True)]


def quoted(cell):
    return '"' + cell.replace('"', '""') + '"'


@settings(max_examples=many(60))
@given(st.lists(st.tuples(CELL, CELL), min_size=1, max_size=6), st.lists(st.integers(0, 200), max_size=12))
def test_a_csv_says_the_same_wherever_it_is_cut(rows, at):
    body = "to,name\n" + "".join(f"{quoted(to)},{quoted(name)}\n" for to, name in rows)
    expected = [(unwrap_number(restore(to)), name) for to, name in rows if (to + name).strip()]
    found = [row for row in CsvRows(cut(body.encode(), at)) if row is not None]
    assert [(row.to, row.variables["name"]) for row in found] == expected


@settings(max_examples=many(60))
@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=8))
def test_any_bytes_are_rows_or_a_refusal_and_the_same_wherever_they_are_cut(content, at):
    def read(kind, pieces):
        try:
            return list(kind(pieces))
        except InvalidInput as refused:
            return [each.message for each in refused.errors]

    for kind in (CsvRows, JsonLines):
        for body in (content, b"to,name\n" + content):
            assert read(kind, [body]) == read(kind, cut(body, at))


def body_of(packed, sizes, *, most=1_000_000):
    """Return what a body gives that comes in pieces of these sizes."""
    rest, steps = packed, iter(sizes)

    def read(size):
        nonlocal rest
        piece, rest = rest[: (taken := min(size, next(steps, size)))], rest[taken:]
        return piece

    return Body(read, gzip=True, length=len(packed), most_unpacked=most)


@settings(max_examples=many(60))
@given(st.lists(st.binary(max_size=3_000), min_size=1, max_size=4), st.lists(st.integers(1, 50), max_size=60))
def test_what_is_packed_comes_out_as_it_was_however_it_arrives(members, sizes):
    packed = b"".join(gzip.compress(member, mtime=0) for member in members)
    body = body_of(packed, sizes)
    assert b"".join(body) == b"".join(members)


@settings(max_examples=many(60))
@given(st.binary(min_size=1, max_size=3_000), st.integers(1, 10_000), st.lists(st.integers(1, 50), max_size=60))
def test_what_is_cut_off_is_never_taken_for_whole(content, left_out, sizes):
    packed = gzip.compress(content, mtime=0)
    short = packed[: -(left_out % len(packed)) or -1]
    if not short:
        return
    with pytest.raises(MalformedRequest):
        list(body_of(short, sizes))


@given(st.binary(max_size=300))
def test_any_bytes_unpack_or_are_refused(content):
    try:
        unpacked = b"".join(body_of(content, []))
    except SmsapiError:
        return
    assert content == b"" or gzip.decompress(content) == unpacked


def test_the_numbers_that_were_seen_are_exact_and_take_little_room():
    seen, known = Seen(), set()
    chosen = random.Random(7)
    for number in [*numbers(60_000), *(f"+{chosen.randrange(10, 10**15)}" for _ in range(60_000))]:
        assert (number in seen) == (number in known)
        seen.add(number)
        known.add(number)
        if len(known) > 5_000:
            assert seen.size_bytes <= 21 * len(known)
    assert len(seen) == len(known)
    assert all(number in seen for number in known)
    assert not any(f"+9{each:06}" in seen for each in range(1000, 2000) if f"+9{each:06}" not in known)


def test_numbers_that_are_chosen_to_meet_do_not_meet():
    # Steps of Fibonacci's numbers, which a plain multiplication puts side by side.
    first, second = 1_836_311_903, 1_134_903_170
    chosen = [f"+{491_000_000_000_000 + i * first + j * second}" for j in range(4) for i in range(2_000)]
    seen = Seen()
    for number in chosen:
        seen.add(number)
    longest = max(len(list(run)) for taken, run in groupby(seen._places, key=bool) if taken)
    assert longest < 300
