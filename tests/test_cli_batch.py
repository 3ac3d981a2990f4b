"""``smsapi batch`` in a script: what it sends, once each, what it prints, and what its exit code says."""

import gzip
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from tests.conftest import free_port
from tests.support.command import called, environment, run
from tests.support.hostile import Reply, hostile

ROWS = "to,name\n+14155552001,Ada\n+14155552002,Bob\n"
TEXT = "Hi {{name}}"
BATCH = {
    "id": "bat_" + "0" * 32, "status": "queued", "total": 2, "accepted": 2, "rejected": 0, "duplicates": 0,
    "counts": {"queued": 2, "sent": 0}, "segments": 2, "price": None, "rate_per_second": None,
}  # fmt: skip
FINISHED = {**BATCH, "status": "finished", "counts": {"queued": 0, "sent": 2}}
BUSY = Reply(503, {"code": "store_unavailable", "detail": "Try again."}, {"Retry-After": "1"})


@pytest.fixture
def database_url(sqlite_url):
    """What is tested is the command."""
    return sqlite_url


@pytest.fixture
def contacts(tmp_path):
    """Write a file of contacts and return its path."""

    def write(content=ROWS, name="contacts.csv"):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    return write


def batch(service, *arguments, stdin=b"", **environ):
    address = {"SMSAPI_URL": service.url, "SMSAPI_TOKEN": getattr(service, "key", "smsk_test_x")}
    return called("batch", *arguments, stdin=stdin, **{**address, **environ})


def batches_of(service):
    return service.request("GET", "/v1/batches").json()["data"]


def in_an_hour():
    return (datetime.now(UTC) + timedelta(hours=1)).isoformat()


def test_everybody_in_a_file_gets_a_text_of_their_own(live, simulator, contacts):
    ended = batch(live(), "send", contacts(), "--text", TEXT)
    assert ended.exit_code == 0, ended.output
    assert simulator.store.texts_by_number() == {"14155552001": 1, "14155552002": 1}
    shown = dict(line.split(maxsplit=1) for line in ended.stdout.splitlines())
    assert (shown["status"], shown["accepted"], shown["rejected"]) == ("finished", "2", "0")
    assert "Idempotency-Key: batch-" in ended.stderr
    assert "is taken: 2 of 2 rows." in ended.stderr
    assert "finished: 2 of 2 (100 %)" in ended.stderr


LINES = '{"to": "+14155552001", "vars": {"name": 1.10}}\n{"to": "+14155552002", "vars": {"name": "Bob"}}\n'
LIST = f"[{LINES.strip().replace(chr(10), ',')}]"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.ndjson", LINES),
        ("a.jsonl", LINES),
        ("a.json", LIST),
        ("b.json", f'{{"recipients": {LIST}}}'),
        ("A.CSV", "to;name\r\n+14155552001;1.10\r\n+14155552002;Bob\r\n"),
    ],
)
def test_a_file_is_what_its_name_says_and_values_stay_as_they_are_written(live, contacts, name, content):
    service = live()
    ended = batch(service, "send", contacts(content, name), "--text", TEXT, "--json")
    assert ended.exit_code == 0, ended.output
    listed = service.request("GET", f"/v1/batches/{json.loads(ended.stdout)['id']}/messages").json()["data"]
    assert {message["text"] for message in listed} == {"Hi 1.10", "Hi Bob"}


def test_a_pipe_is_read_to_its_end(live):
    rows = "".join(f"+1415555{number},Somebody {number}\n" for number in range(2000, 2600)).encode()
    ended = batch(
        live(), "send", "-", "--format", "csv", "--text", TEXT, "--no-wait", "--json", stdin=b"to,name\n" + rows
    )
    assert ended.exit_code == 0, ended.output
    assert json.loads(ended.stdout)["accepted"] == 600


def test_what_is_uploaded_is_packed_only_where_that_pays_and_says_how_it_is_packed(contacts):
    large = ROWS + "".join(f"+1415555{number},Somebody\n" for number in range(2000, 2600))
    with hostile([Reply(202, BATCH)]) as service:
        for content in (ROWS, large):
            assert batch(service, "send", contacts(content), "--text", TEXT, "--no-wait").exit_code == 0
    (_, plain, small), (_, packed, big) = service.asked
    assert (plain.get("Content-Encoding"), small.decode()) == (None, ROWS)
    assert (packed["Content-Encoding"], gzip.decompress(big).decode()) == ("gzip", large)
    assert int(packed["Content-Length"]) == len(big) < len(large)


def test_every_option_reaches_the_service_as_the_contract_names_it(live, contacts):
    service = live()
    options = {"--from": "+14155550100", "--category": "marketing", "--expires-in": "600", "--max-segments": "2"}
    words = [word for pair in options.items() for word in pair]
    more = (
        "--metadata",
        "shop=Berlin=1",
        "--metadata",
        "run=7",
        "--smart-encoding",
        "--send-at",
        "2099-01-01T00:00:00Z",
    )
    ended = batch(service, "send", contacts(), "--text", TEXT, *words, *more, "--json")
    # Everything but the moment is taken; that this one is refused shows that it arrived.
    assert (ended.exit_code, json.loads(ended.stdout)["errors"][0]["pointer"]) == (2, "/send_at")
    ended = batch(service, "send", contacts(), "--text", TEXT, *words, *more[:-2], "--json")
    made = json.loads(ended.stdout)
    assert made["metadata"] == {"shop": "Berlin=1", "run": "7"}
    assert (made["from"], made["category"], made["text"]) == ("+14155550100", "marketing", TEXT)


def test_an_option_of_nought_is_an_option(live, contacts):
    ended = batch(live(), "send", contacts(), "--text", TEXT, "--expires-in", "0")
    assert ended.exit_code == 2
    assert "  /expires_in: " in ended.stderr


def test_json_is_the_batch_on_stdout_and_nothing_else_anywhere(live, contacts):
    service = live()
    address = {"SMSAPI_URL": service.url, "SMSAPI_TOKEN": service.key}
    ended = run("batch", "send", contacts(), "--text", TEXT, "--json", **address)
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert json.loads(ended.stdout)["status"] == "finished"


def test_bad_rows_are_5_and_can_be_had_as_a_file(live, simulator, contacts, tmp_path):
    service, kept = live(), tmp_path / "rejects.csv"
    path = contacts(ROWS + "+1415,Eve\n+14155552001,Again\n")
    ended = batch(service, "send", path, "--text", TEXT, "--rejects", str(kept))
    assert ended.exit_code == 5, ended.output
    assert simulator.store.count() == 2
    written = kept.read_text().splitlines()
    assert (written[0], written[1][:22]) == ("row,value,code,message", "4,+1415,invalid_number")
    assert len(written) == 2
    (made,) = batches_of(service)
    assert (made["rejected"], made["duplicates"]) == (1, 1)
    assert batch(service, "rejects", made["id"]).stdout.split()[:3] == ["4", "+1415", "invalid_number"]
    assert json.loads(batch(service, "rejects", made["id"], "--json").stdout)["row"] == 4
    assert batch(service, "rejects", made["id"], "--csv", "-").stdout_bytes == kept.read_bytes()


def test_rejects_of_many_pages_are_all_there(live, contacts):
    service = live()
    path = contacts("to,name\n" + "".join(f"+1415{place},x\n" for place in range(250)))
    assert batch(service, "send", path, "--text", TEXT, "--no-wait").exit_code == 5
    shown = batch(service, "rejects", batches_of(service)[0]["id"], "--json").stdout.splitlines()
    assert [json.loads(line)["row"] for line in shown] == list(range(2, 252))


def test_a_message_that_plivo_refuses_is_5(live, contacts):
    ended = batch(live(), "send", contacts("to\n+14155550003\n+14155552001\n"), "--text", "Hello")
    assert ended.exit_code == 5, ended.output
    assert "  failed     1" in ended.stdout


def test_the_same_command_again_sends_nobody_anything_twice(live, simulator, contacts):
    service, path = live(), contacts()
    first, second = (batch(service, "send", path, "--text", TEXT) for _ in range(2))
    assert (first.exit_code, second.exit_code) == (0, 6)
    assert "nothing is sent a second time" in second.stderr
    assert "nothing is sent a second time" not in first.stderr
    assert simulator.store.count() == 2
    # Another text is another batch, and so is another key.
    assert batch(service, "send", path, "--text", "Bye {{name}}").exit_code == 0
    assert batch(service, "send", path, "--text", TEXT, "--idempotency-key", "once-more").exit_code == 0
    assert simulator.store.count() == 6


def test_in_json_a_batch_says_whether_it_was_uploaded_before(live, simulator, contacts):
    service, path = live(), contacts()
    first, second = (batch(service, "send", path, "--text", TEXT, "--json") for _ in range(2))
    assert [json.loads(each.stdout)["replayed"] for each in (first, second)] == [False, True]
    assert (first.exit_code, first.stderr) == (0, "")
    assert (second.exit_code, second.stderr.count("\n")) == (6, 1)
    assert "nothing is sent a second time" in second.stderr
    # What it rejected the first time is no news either: nobody is texted by this command.
    bad = contacts("to,name\n+14155552001,Ada\nnonsense,Bob\n", name="bad.csv")
    assert [batch(service, "send", bad, "--text", TEXT).exit_code for _ in range(2)] == [5, 6]
    assert simulator.store.count() == 3


def test_the_repetition_of_an_upload_of_its_own_that_was_not_answered_is_no_replay(contacts):
    replay = Reply(202, FINISHED, {"Idempotent-Replayed": "true"})
    with hostile([Reply(None), replay]) as service:
        ended = batch(service, "send", contacts(), "--text", TEXT, "--json")
    assert (ended.exit_code, json.loads(ended.stdout)["replayed"]) == (0, False), ended.output


def test_all_or_nothing_sends_nothing_is_2_and_shows_why(live, simulator, contacts, tmp_path):
    kept = tmp_path / "rejects.csv"
    path = contacts(ROWS + "+1415,Eve\n")
    ended = batch(live(), "send", path, "--text", TEXT, "--all-or-nothing", "--rejects", str(kept))
    assert ended.exit_code == 2, ended.output
    assert "nothing of it is sent" in ended.stderr
    assert kept.read_text().splitlines()[1].startswith("4,+1415,")
    assert simulator.store.count() == 0


def test_a_dry_run_sends_nothing_and_shows_segments(live, simulator, contacts):
    ended = batch(live(), "send", contacts(), "--text", "x" * 200, "--dry-run", "--json")
    assert ended.exit_code == 0, ended.output
    shown = json.loads(ended.stdout)
    assert (shown["status"], shown["accepted"], shown["segments"]) == ("checked", 2, 4)
    assert simulator.store.count() == 0


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("name\nAda\n", "the header, must name the columns"),
        ("to,nam\n+14155552001,Ada\n", "no column for {{name}}"),
        (b"to,name\n+14155552001,\xff\n", "is not in UTF-8"),
        ("to,name\n", "no row"),
    ],
)
def test_a_file_that_is_refused_is_2_and_nothing_is_sent(live, simulator, contacts, content, said):
    service = live()
    ended = batch(service, "send", contacts(content), "--text", TEXT)
    assert ended.exit_code == 2, ended.output
    assert said in ended.stderr
    assert (batches_of(service), simulator.store.count()) == ([], 0)


def test_a_batch_is_shown_called_off_and_watched_to_its_end(live, simulator, contacts):
    service = live()
    ended = batch(service, "send", contacts(), "--text", TEXT, "--send-at", in_an_hour(), "--json")
    assert ended.exit_code == 0, ended.output
    made = json.loads(ended.stdout)
    assert made["status"] == "scheduled"
    assert "scheduled" in batch(service, "show", made["id"]).stdout
    assert json.loads(batch(service, "cancel", made["id"], "--json").stdout)["counts"]["canceled"] == 2
    watched = batch(service, "watch", made["id"])
    assert watched.exit_code == 5
    assert "  canceled   2" in watched.stdout
    assert simulator.store.count() == 0


def test_what_is_sent_can_not_be_called_off_any_more_and_that_is_1(live, contacts):
    service = live()
    made = json.loads(batch(service, "send", contacts(), "--text", TEXT, "--json").stdout)
    ended = batch(service, "cancel", made["id"])
    assert ended.exit_code == 1
    assert "409 too_late" in ended.stderr
    assert batch(service, "watch", made["id"]).exit_code == 0


def test_somebody_elses_batch_is_1(live):
    service = live()
    for command in ("show", "watch", "cancel", "rejects"):
        ended = batch(service, command, BATCH["id"])
        assert (ended.exit_code, ended.stdout) == (1, ""), command
        assert "404 not_found" in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["send"], "Missing argument 'FILE'"),
        (["send", "no-such.csv", "--text", "x"], "does not exist"),
        (["send", "{csv}"], "Missing option '--text'"),
        (["send", "{csv}", "--text", "\udcff"], "not valid UTF-8"),
        (["send", "{csv}", "--text", "x", "--metadata", "shop=\udcff"], "not valid UTF-8"),
        (["send", "{csv}", "--text", "x", "--metadata", "\udcff=x"], "not valid UTF-8"),
        (["send", "{json}", "--metadata", "shop=\udcff"], "not valid UTF-8"),
        (["send", "{json}", "--max-segments", str(2**64)], "a number in it is too large"),
        (["send", "{csv}", "--text", "x", "--metadata", "shop"], "is not NAME=VALUE"),
        (["send", "{csv}", "--text", "x", "--category", "spam"], "is not one of"),
        (["send", "{csv}", "--text", "x", "--idempotency-key", "a b"], "visible ASCII"),
        (["send", "-", "--text", "x"], "Say with --format"),
        (["send", "-", "--format", "csv", "--text", "x"], "is empty"),
        (["send", "{csv}", "--format", "json", "--text", "x"], "not valid JSON"),
        (["send", "{json}", "--text", "x"], "text is in the file and in an option, too"),
        (["watch", "../clients"], "is not an id"),
        (["watch"], "Missing argument 'BATCH_ID'"),
    ],
)
def test_wrong_usage_is_2_and_asks_nobody(contacts, arguments, said):
    files = {"csv": contacts(), "json": contacts('{"text": "x", "recipients": []}', "a.json")}
    with hostile([Reply(202, BATCH)]) as service:
        ended = batch(service, *(word.format(**files) if word[0] == "{" else word for word in arguments))
    assert (ended.exit_code, service.asked) == (2, []), ended.output
    assert said in " ".join(ended.stderr.split())


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (Reply(401, {"code": "unauthenticated"}), 3),
        (Reply(403, {"code": "insufficient_scope"}), 3),
        (Reply(404, b"<html>not here</html>"), 1),
        (Reply(200, b"<html>a login page</html>"), 1),
        (Reply(202, {"id": "bat_1", "status": "queued"}), 1),
        (Reply(400, {"code": "malformed_request"}), 2),
        (Reply(413, {"code": "body_too_large"}), 2),
        (Reply(422, {"code": "batch_rejected", "batch_id": 7}), 2),
        (Reply(409, {"code": "idempotency_in_progress"}), 4),
        (Reply(429, {"code": "rate_limited"}), 4),
        (Reply(500, {"code": "internal_error"}), 4),
        (Reply(502, b"oops"), 4),
        (Reply(503, {"code": "queue_full"}), 4),
        (Reply(None), 4),
    ],
)
def test_the_exit_code_of_a_refused_upload_says_what_to_do(contacts, reply, code):
    with hostile([reply]) as service:
        ended = batch(service, "send", contacts(), "--text", TEXT, "--retry-for", "0", "--token", "smsk_HUSH")
    assert ended.exit_code == code, ended.output
    assert (len(service.asked), ended.stdout) == (1, "")
    assert ("--idempotency-key batch-" in ended.stderr) == (code == 4)
    assert "HUSH" not in ended.output


def test_an_upload_that_breaks_is_tried_again_with_the_same_bytes_and_the_same_key(contacts):
    with hostile([BUSY, Reply(None), Reply(502, b"oops"), Reply(202, BATCH)]) as service:
        ended = batch(service, "send", contacts(), "--text", TEXT, "--no-wait")
    assert ended.exit_code == 0, ended.output
    assert len(service.asked) == 4
    assert {(path, headers["Idempotency-Key"], body) for path, headers, body in service.asked} == {
        ("/v1/batches?text=Hi+%7B%7Bname%7D%7D", service.asked[0][1]["Idempotency-Key"], ROWS.encode())
    }
    assert "503 store_unavailable: Try again. Again in 1 s." in ended.stderr


def test_watching_goes_on_where_the_service_is_away_for_a_moment(contacts):
    with hostile([Reply(202, BATCH), Reply(None), BUSY, Reply(200, FINISHED)]) as service:
        ended = batch(service, "send", contacts(), "--text", TEXT)
    assert ended.exit_code == 0, ended.output
    assert [path for path, _, _ in service.asked][1:] == [f"/v1/batches/{BATCH['id']}"] * 3


def test_a_batch_that_was_taken_and_can_not_be_watched_any_more_is_4_and_says_how_to_go_on(contacts):
    with hostile([Reply(202, BATCH), BUSY]) as service:
        ended = batch(service, "send", contacts(), "--text", TEXT, "--retry-for", "0")
    assert ended.exit_code == 4
    assert f"smsapi batch watch {BATCH['id']}" in ended.stderr


def test_nobody_there_is_4(contacts):
    address = {"SMSAPI_URL": f"http://127.0.0.1:{free_port()}", "SMSAPI_TOKEN": "smsk_test_x"}
    ended = called("batch", "send", contacts(), "--text", TEXT, "--retry-for", "0", "--json", **address)
    assert (ended.exit_code, json.loads(ended.stdout)["code"]) == (4, "connection_failed")


ONLY_HERE = """
import sys
from click.testing import CliRunner
from smsapi.cli import _COMMANDS, cli
assert CliRunner().invoke(cli, ["send", "--help"]).exit_code == 0
assert "rich" not in sys.modules
for name in _COMMANDS:
    if name != "batch":
        assert CliRunner().invoke(cli, [name, "--help"]).exit_code == 0
assert "smsapi.cli.bars" not in sys.modules
assert CliRunner().invoke(cli, ["batch", "--help"]).exit_code == 0
assert {"rich", "smsapi.cli.bars"} <= sys.modules.keys()
"""


def test_no_other_command_waits_for_what_draws_the_bars():
    command = [sys.executable, "-c", ONLY_HERE]
    ended = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
