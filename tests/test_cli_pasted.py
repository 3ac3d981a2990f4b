"""What people paste on the command line, and files as their editors write them: read as over HTTP."""

import json

import pytest

from tests.support.command import called

TO = "+14155550123"
PASTED = f"\u202a{TO}\u202c"


@pytest.fixture
def database_url(sqlite_url):
    """What is tested is the command; the reading is the service's, and has tests on both stores."""
    return sqlite_url


@pytest.fixture
def smsapi(live):
    """Run ``smsapi`` against the whole service."""
    service = live()

    def command(*arguments, stdin=b""):
        return called(*arguments, stdin=stdin, SMSAPI_URL=service.url, SMSAPI_TOKEN=service.key)

    return command


def test_a_pasted_number_and_a_text_with_a_mark_are_sent_as_they_were_meant(smsapi):
    ended = smsapi("send", "--to", PASTED, "--text", "-", "--json", stdin=b"\xef\xbb\xbfHello\n")
    assert ended.exit_code == 0, ended.output
    message = json.loads(ended.stdout)
    assert (message["to"], message["text"], message["encoding"]) == (TO, "Hello", "gsm7")


@pytest.mark.parametrize(("text", "said"), [("\u200b \u3164", "can be seen"), ("a\tb", "U+0009")])
def test_a_text_that_cannot_be_sent_is_refused_with_the_reason(smsapi, tmp_path, text, said):
    file = tmp_path / "a.csv"
    file.write_text(f"to\n{TO}\n", encoding="utf-8")
    for ended in (smsapi("send", "--to", TO, "--text", text), smsapi("batch", "send", str(file), "--text", text)):
        assert ended.exit_code in {1, 2}
        assert "/text" in ended.stderr
        assert said in ended.stderr


@pytest.mark.parametrize("moment", ["2026-W52-4T18:00:00Z", "20261224T180000Z", "2026-12-24 18:00:00Z"])
def test_what_is_no_time_is_refused_with_the_form_of_one(smsapi, tmp_path, moment):
    file = tmp_path / "a.csv"
    file.write_text(f"to\n{TO}\n", encoding="utf-8")
    ended = smsapi("batch", "send", str(file), "--text", "Hi", "--send-at", moment)
    assert ended.exit_code == 2
    assert "/send_at" in ended.stderr
    assert "2026-12-24T18:00:00Z" in ended.stderr


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", f"sep=;\r\nTO;pre\u0301nom\r\n {PASTED};Ada\r\n"),
        ("a.tsv", f"\ufeff\rTo\tpr\u00e9nom\r{PASTED}\tAda\r"),
        ("a.ndjson", f'\ufeff{{"to": "{PASTED}", "vars": {{"pre\u0301nom": "Ada"}}, "reference": null}}\n'),
        ("a.json", f'\ufeff[{{"to": "{PASTED}", "vars": {{"pre\u0301nom": "Ada"}}, "reference": null}}]'),
    ],
)
def test_a_file_is_read_however_it_was_written(smsapi, tmp_path, name, content):
    file = tmp_path / name
    file.write_bytes(content.encode())
    ended = smsapi("batch", "send", str(file), "--text", "Hi {{pr\u00e9nom}}", "--dry-run", "--json")
    assert ended.exit_code == 0, ended.output
    assert (json.loads(ended.stdout)["accepted"], json.loads(ended.stdout)["rejected"]) == (1, 0)
