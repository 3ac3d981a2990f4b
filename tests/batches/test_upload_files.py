"""Files as people's tools write them, and as nobody's tool would."""

import gzip
import io
import zlib

import pytest

from tests.support.uploading import LINES, left_behind, numbers, rejects, stream, texts, upload

A, B, C = numbers(3)
MEBIBYTE = 1024 * 1024


@pytest.fixture
def database_url(postgres_url):
    """Reading a file is the same for both stores; PostgreSQL takes less of what can be in one."""
    return postgres_url


@pytest.fixture
def store(app):
    """The store, in which nothing may be left behind by what is refused."""
    return app.extensions["smsapi"].database


@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "marked"])
@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["lf", "crlf"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"], ids=["comma", "semicolon", "tab"])
def test_a_csv_of_any_spreadsheet_is_read(caller, delimiter, end, mark):
    rows = (["to", '"a,;b,;c"', "name"], [A, "x", '"Ada ""the"" first, or; so"'], [], ["", "", ""], [B, "y", "Bob"])
    body = mark + "".join(delimiter.join(cells) + end for cells in rows)
    batch = upload(caller, body, text="{{name}}").get_json()
    assert batch["total"] == 2
    assert texts(caller, batch["id"]) == {A: 'Ada "the" first, or; so', B: "Bob"}


def test_the_last_line_needs_no_end_and_cells_of_the_number_may_have_spaces_about_them(caller):
    batch = upload(caller, f"name, to \nAda, {A} \nBob,{B}", text="{{name}}").get_json()
    assert texts(caller, batch["id"]) == {A: "Ada", B: "Bob"}


def test_rows_are_counted_as_a_spreadsheet_does(caller):
    body = f'\nto,n\n\n{A},"one\ntwo\nthree"\n12,x\n\n13,y\n'
    batch = upload(caller, body, text="{{n}}").get_json()
    assert [row for row, _, _ in rejects(caller, batch["id"])] == [5, 7]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "Row 1, the header, must name the columns, and one of them to."),
        (b"name,number\nx,y\n", "Row 1, the header, must name the columns, and one of them to."),
        (b"to,name,name\n", "Row 1, the header, names a column twice: name."),
        (b"to,to\n", "Row 1, the header, names a column twice: to."),
        (b"to" + b",a" * 1000 + b"\n", "Row 1, the header, names more than 1000 columns."),
        (b"to\n", "There is no row in it."),
        (b"to\n\n\r\n", "There is no row in it."),
        (f"to,n\n{A},x\n{B},\xe4\n".encode("latin-1"), "Row 3 is not in UTF-8."),
        (f"to,n\n{A},x\n{B},\0\n".encode(), "Row 3 holds U+0000."),
        (f'to,n\n{A},x\n{B},"open\n{C},y\n'.encode(), "Row 3 has a quote that is not closed."),
        (f'to,n\n{A},x\n{B},"a"b\n'.encode(), "Row 3 is no CSV: something follows a closing quote"),
        (f"to,n\n{A},x\n{B},a\rb\n".encode(), "Row 3 is no CSV"),
        (f"to,n\n{A},x\n{B},{'y' * 70_000}\n".encode(), "Row 3 is longer than 65536 bytes."),
        (f'to,n\n{A},x\n{B},"'.encode() + b"line\n" * 200_000, "Row 3 is longer than 65536 characters"),
        ("to,n\nx,y\n".encode("utf-16"), "Row 1 is not in UTF-8."),
    ],
)
def test_a_csv_that_cannot_be_read_is_refused_with_the_row(store, caller, body, said):
    answer = upload(caller, body)
    assert (answer.status_code, answer.get_json()["code"]) == (422, "validation_failed")
    ((message),) = [each["message"] for each in answer.get_json()["errors"]]
    assert message.startswith(said)
    assert left_behind(store) == {}


def test_a_fault_late_in_the_file_leaves_nothing_of_what_came_before_it(store, caller):
    body = "to\n" + "".join(f"{number}\n" for number in numbers(11_000)) + '"open'
    answer = upload(caller, body)
    assert answer.get_json()["errors"][0]["message"] == "Row 11002 has a quote that is not closed."
    assert left_behind(store) == {}


@pytest.mark.parametrize(
    "line",
    [
        *("{", "[]", "5", '"text"', "null", "\xff", "NaN", "[" * 30_000),
        *('{"to": "\\ud800"}', f'{{"to": "{A}", "to": "{A}"}}', f'{{"to": "{A}", "vars": {{"n": 1, "n": 2}}}}'),
    ],
)
def test_a_line_that_is_no_recipient_is_a_reject(caller, line):
    body = line.encode("latin-1") + f'\n{{"to": "{B}"}}\n'.encode()
    batch = upload(caller, body, kind=LINES).get_json()
    ((row, _, code),) = rejects(caller, batch["id"])
    assert (batch["accepted"], row, code) == (1, 1, "validation_failed")


def test_a_line_of_json_has_an_end(store, caller):
    body = f'{{"to": "{A}"}}\n{{"to": "{B}", "vars": {{"n": "{"x" * 70_000}"}}}}\n'
    answer = upload(caller, body, kind=LINES)
    assert answer.get_json()["errors"][0]["message"] == "Row 2 is longer than 65536 bytes."
    assert left_behind(store) == {}


def test_more_rows_than_are_allowed_are_too_large(make_app, make_caller):
    app = make_app(batch_max_rows=3)
    caller, store = make_caller(app), app.extensions["smsapi"].database
    body = "to\n" + "".join(f"{number}\n" for number in numbers(4))
    recipients = [{"to": number} for number in numbers(4)]
    lines = f'{{"to": "{A}"}}\n' * 4
    answers = (
        upload(caller, body),
        upload(caller, lines, kind=LINES),
        upload(caller, "to\n" + "\n" * 20_000),
        caller.post("/v1/batches", {"text": "x", "recipients": recipients}),
    )
    assert {(answer.status_code, answer.get_json()["code"]) for answer in answers} == {(413, "body_too_large")}
    assert left_behind(store) == {}
    assert upload(caller, body.rpartition("+")[0] + "\n\n").status_code == 202


def test_what_is_packed_is_taken_in_one_member_or_many(caller):
    whole = f"to\n{A}\n{B}\n{C}\n".encode()
    members = b"".join(gzip.compress(whole[start : start + 7]) for start in range(0, len(whole), 7))
    for packed in (gzip.compress(whole), members, gzip.compress(whole) + b"\0" * 700, gzip.compress(b"") + members):
        batch = upload(caller, packed, headers={"Content-Encoding": "gzip"}).get_json()
        assert batch["accepted"] == 3
    recipients = b'{"text": "Hi", "recipients": [{"to": "%s"}]}' % A.encode()
    assert upload(caller, recipients, kind="application/json", packed=True, text=[]).status_code == 202


@pytest.mark.parametrize(
    "packed",
    [
        gzip.compress(f"to\n{A}\n".encode())[:-5],
        gzip.compress(f"to\n{A}\n".encode()) + b"more",
        gzip.compress(f"to\n{A}\n".encode())[:-8] + b"\0" * 8,
        zlib.compress(f"to\n{A}\n".encode()),
        f"to\n{A}\n".encode(),
    ],
    ids=["cut", "followed", "wrong sum", "zlib", "not packed"],
)
def test_what_is_not_packed_as_it_says_is_refused(store, caller, packed):
    answer = upload(caller, packed, headers={"Content-Encoding": "gzip"})
    assert (answer.status_code, answer.get_json()["code"]) == (400, "malformed_request")
    assert left_behind(store) == {}


def test_a_bomb_is_refused_before_it_goes_off(store, caller):
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    line = b'{"to": "1"}' + b" " * 60_000 + b"\n"
    bomb = b"".join(packer.compress(line * 16) for _ in range(600)) + packer.flush()
    assert len(bomb) < MEBIBYTE
    answer = upload(caller, bomb, kind=LINES, headers={"Content-Encoding": "gzip"})
    assert (answer.status_code, answer.get_json()["code"]) == (413, "body_too_large")
    crumbs = gzip.compress(b"", mtime=0) * 20_001
    assert upload(caller, crumbs, headers={"Content-Encoding": "gzip"}).status_code == 413
    assert left_behind(store) == {}


def test_json_that_is_all_structure_is_refused_before_it_fills_the_memory(caller):
    body = b'{"text": "x", "recipients": [' + b"[]," * 700_000 + b"[]]}"
    assert upload(caller, body, kind="application/json", text=[]).status_code == 413


class Endless:
    """A body that has no end; it remembers how much of it was asked for."""

    def __init__(self, first: bytes, then: bytes) -> None:
        self._next = first
        self._then = then
        self.given = 0

    def read(self, size: int = -1) -> bytes:
        while len(self._next) < size:
            self._next += self._then
        piece, self._next = self._next[:size], self._next[size:]
        self.given += len(piece)
        return piece


def test_a_body_that_never_ends_is_too_large_at_64_mebibytes(store, caller):
    body = Endless(b"to,n\n", f"{A},{'x' * 30_000}\n".encode())
    answer = stream(caller, body)
    assert (answer.status_code, answer.get_json()["code"]) == (413, "body_too_large")
    assert 64 * MEBIBYTE <= body.given < 65 * MEBIBYTE
    assert left_behind(store) == {}


def test_a_length_that_is_too_great_is_not_read_at_all(store, caller):
    body = Endless(b"to\n", b"x\n")
    assert stream(caller, body, length=65 * MEBIBYTE).status_code == 413
    assert body.given == 0
    assert left_behind(store) == {}


def test_a_body_that_is_shorter_than_its_length_is_no_batch(store, caller):
    """A caller that died on the way: what came looks like a whole file."""
    body = f"to\n{A}\n{B}\n".encode()
    answer = stream(caller, io.BytesIO(body), length=len(body) + 20)
    assert (answer.status_code, answer.get_json()["code"]) == (408, "body_incomplete")
    assert left_behind(store) == {}


def test_a_refused_body_is_read_on_so_that_its_sender_sees_the_answer(caller):
    body = io.BytesIO(b'to\n"a"b\n' + b"x" * MEBIBYTE)
    assert stream(caller, body).status_code == 422
    assert body.read() == b""
