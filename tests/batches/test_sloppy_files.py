"""Recipients as people write and paste them: names of variables in any script, and the same rules in each format."""

import json
import unicodedata

import pytest

from tests.support.uploading import CSV, LINES, numbers, rejects, texts, upload

A, B, C = numbers(3)
COMPOSED = unicodedata.normalize("NFC", "prénom")
DECOMPOSED = unicodedata.normalize("NFD", "prénom")
FORMATS = ["csv", "ndjson", "json"]


def send(caller, form, rows, *, text, **fields):
    """Send rows, each a number and its variables, in a format; return the answer."""
    recipients = [{"to": to, "vars": variables} for to, variables in rows]
    if form == "json":
        return caller.post("/v1/batches", {"text": text, "recipients": recipients, **fields})
    if form == "ndjson":
        body = "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in recipients)
        return upload(caller, body, kind=LINES, text=text, **fields)
    names = list(rows[0][1])
    lines = [["to", *names], *([to, *(variables[name] for name in names)] for to, variables in rows)]
    body = "".join(",".join(f'"{cell}"' for cell in line) + "\n" for line in lines)
    return upload(caller, body, kind=CSV, text=text, **fields)


def message(answer):
    assert answer.status_code == 422, answer.text
    ((found),) = [(each["pointer"], each["message"]) for each in answer.get_json()["errors"]]
    return found


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    ("given", "named"),
    [
        ("नाम", "नाम"),
        (COMPOSED, DECOMPOSED),
        (DECOMPOSED, COMPOSED),
        (unicodedata.normalize("NFD", "이름"), "이름"),
        ("ชื่อ", "ชื่อ"),
        ("பெயர்", "பெயர்"),
        # Persian, with the joiner that its compound words need.
        ("\u0646\u0627\u0645\u200c\u0628", "\u0646\u0627\u0645\u200c\u0628"),
        ("имя_2", "имя_2"),
        (" name\u200b", "name"),
        ("name", " \u00a0name "),
    ],
)
def test_a_variable_may_have_a_name_of_any_script_however_it_is_composed(caller, form, given, named):
    answer = send(caller, form, [(A, {given: "Ada"}), (B, {given: "Bob"})], text=f"Hi {{{{{named}}}}}")
    assert answer.status_code == 202, answer.text
    assert texts(caller, answer.get_json()["id"]) == {A: "Hi Ada", B: "Hi Bob"}


@pytest.mark.parametrize("form", FORMATS)
def test_two_names_that_are_the_same_are_told_of(caller, form):
    answer = send(caller, form, [(A, {COMPOSED: "Ada", DECOMPOSED: "Bob"})], text="Hi")
    if form == "csv":
        assert message(answer) == ("", f"Row 1, the header, names a column twice: {COMPOSED}.")
        return
    batch = answer.get_json()
    (found,) = caller.get(f"/v1/batches/{batch['id']}/rejects").get_json()["data"]
    assert (found["code"], found["message"]) == ("validation_failed", f"vars names a variable twice: {COMPOSED}.")


@pytest.mark.parametrize("form", FORMATS)
def test_case_tells_two_variables_apart(caller, form):
    answer = send(caller, form, [(A, {"name": "Ada", "Name": "Bob"})], text="{{name}} {{Name}}")
    assert texts(caller, answer.get_json()["id"]) == {A: "Ada Bob"}


def test_a_column_that_differs_in_case_alone_is_named(caller):
    assert message(upload(caller, f"to,Name\n{A},Ada\n", text="Hi {{name}}")) == (
        "/text",
        "The file has no column for {{name}}, but one called Name: upper and lower case make two names.",
    )


@pytest.mark.parametrize("name", ["", " ", "first name", "a.b", "a/b", "x{", "😀", "x" * 65, "\u200d"])
def test_what_is_no_name_is_refused(caller, name):
    pointer, said = message(upload(caller, f"to,name\n{A},Ada\n", text=f"Hi {{{{{name}}}}}"))
    assert pointer == "/text"
    assert said.startswith("{{ must open a variable: letters")


@pytest.mark.parametrize(
    "body",
    [
        f"TO;Reference;name\n{A};r-1;Ada\n{B};r-2;Bob\n",
        f"sep=;\r\nto;reference;name\r\n{A};r-1;Ada\r\n{B};r-2;Bob\r\n",
        f"to,name,REFERENCE\r{A},Ada,r-1\r{B},Bob,r-2",
        f'\ufeff"sep=\t"\r\nto\treference\tname\r\n{A}\tr-1\tAda\r\n{B}\tr-2\tBob\r\n',
        f"SEP=|\nto|reference|name\r\n{A}|r-1|Ada\n{B}|r-2|Bob\r\n",
        f"to,name,reference\n'{A},Ada, r-1 \n'{B},Bob,r-2\n",
        f"\ufeff\nname\t To \treference\n\nAda\t{A}\tr-1\nBob\t{B}\tr-2\n",
        f"to,name,reference,,\n{A},Ada,r-1,,\n{B},Bob,r-2,,,,\n",
        f"to,name,reference,note\n{A},Ada,r-1\n{B},Bob,r-2,x\n",
    ],
)
def test_a_batch_reads_a_csv_as_an_import_does(caller, body):
    batch = upload(caller, body, text="Hi {{name}}").get_json()
    assert (batch["accepted"], batch["rejected"]) == (2, 0)
    assert texts(caller, batch["id"]) == {A: "Hi Ada", B: "Hi Bob"}
    found = caller.get(f"/v1/batches/{batch['id']}/messages").get_json()["data"]
    assert {each["to"]: each["reference"] for each in found} == {A: "r-1", B: "r-2"}


def test_the_cells_are_found_whatever_pieces_the_lines_come_in(caller):
    # The line end is known by its second half, which may be in the next piece: see test_reading for all places.
    body = f"to,note,name\r\n{A},,Ada\r\n{B}\r\n{C},,Cy,x\r\n"
    batch = upload(caller, body, text="Hi {{name}}").get_json()
    assert texts(caller, batch["id"]) == {A: "Hi Ada"}
    assert rejects(caller, batch["id"]) == [(3, B, "validation_failed"), (4, C, "validation_failed")]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    "written",
    ["\u202a{}\u202c", " {} ", "\u00a0{}", "\u2066{}\u2069", "\u200e{}\u200e", "{}\ufeff", "\u3000{}\u2028"],
)
def test_a_pasted_number_is_read_in_each_format(caller, form, written):
    rows = [(written.format(A), {"name": "Ada"}), (A, {"name": "Bob"})]
    batch = send(caller, form, rows, text="Hi {{name}}").get_json()
    assert (batch["accepted"], batch["duplicates"], batch["rejected"]) == (1, 1, 0)
    assert texts(caller, batch["id"]) == {A: "Hi Ada"}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("written", ["+1415\u200b2000000", "+1 4152000000", "\u202a\u202c", "+1415\u00ad2000000"])
def test_what_is_within_a_number_stays_a_fault(caller, form, written):
    batch = send(caller, form, [(written, {"name": "Ada"}), (B, {"name": "Bob"})], text="Hi {{name}}").get_json()
    assert [code for _, _, code in rejects(caller, batch["id"])] == ["invalid_number"]


@pytest.mark.parametrize("form", FORMATS)
def test_a_tab_in_a_variable_is_named(caller, form):
    batch = send(caller, form, [(A, {"name": "a\tb"}), (B, {"name": "\tBob"})], text="Hi {{name}}").get_json()
    found = caller.get(f"/v1/batches/{batch['id']}/rejects").get_json()["data"]
    assert [each["code"] for each in found] == ["validation_failed"] * 2
    assert all("U+0009" in each["message"] for each in found)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("value", ["\u200b", "\u2060\u00ad", "\u3164", "\u2800 ", "\ufeff", "\u115f", "\uffa0"])
def test_a_row_whose_text_would_show_nothing_is_rejected(caller, form, value):
    rows = [(A, {"name": value}), (B, {"name": "Bob"})]
    batch = send(caller, form, rows, text="{{name}}\u200b").get_json()
    assert [(to, code) for _, to, code in rejects(caller, batch["id"])] == [(A, "missing_variable")]
    assert texts(caller, batch["id"]) == {B: "Bob\u200b"}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(("text", "said"), [("\u200b\u3164", "can be seen"), ("a\tb", "U+0009")])
def test_a_text_that_cannot_be_sent_is_refused_as_a_whole(caller, form, text, said):
    pointer, found = message(send(caller, form, [(A, {"name": "Ada"})], text=text))
    assert pointer == "/text"
    assert said in found


@pytest.mark.parametrize("lead", ["\ufeff", "\ufeff\n", " \ufeff"])
def test_a_byte_order_mark_before_json_is_no_fault(caller, lead):
    line = json.dumps({"to": A})
    assert upload(caller, f"{lead}{line}\n", kind=LINES).get_json()["accepted"] == 1
    whole = json.dumps({"text": "Hi", "recipients": [{"to": B}]})
    headers = {"X-API-Key": caller.key, "Content-Type": "application/json"}
    answer = caller.app.test_client().post("/v1/batches", data="\ufeff" + whole, headers=headers)
    assert (answer.status_code, answer.get_json()["accepted"]) == (202, 1)


def test_null_is_as_if_it_were_not_given(caller):
    nothing = dict.fromkeys(("category", "from", "metadata", "on_unknown", "smart_encoding", "send_at", "dry_run"))
    body = {"text": "Hi", "recipients": [{"to": A, "vars": None, "reference": None}], **nothing}
    batch = caller.post("/v1/batches?category=transactional&smart_encoding=false", body).get_json()
    assert (batch["category"], batch["metadata"], batch["accepted"]) == ("transactional", {}, 1)
    lines = "\ufeff" + json.dumps({"to": C, "vars": None, "reference": None}) + "\n"
    assert upload(caller, lines, kind=LINES).get_json()["accepted"] == 1
    answer = upload(caller, f"to\n{B}\n", metadata="null", dlt="null")
    assert (answer.status_code, answer.get_json()["metadata"]) == (202, {})
