"""``smsapi batch`` before a person: bars in a terminal, what Ctrl-C comes to, and the command that goes on."""

import fcntl
import os
import pty
import re
import shlex
import signal
import socket
import struct
import subprocess
import termios
import threading
from contextlib import contextmanager

import pytest

from smsapi.batches.arriving import MOST_ON_THE_WIRE
from smsapi.cli.parcel import TooLarge, pack
from tests.conftest import eventually
from tests.support.command import SMSAPI, called, environment
from tests.support.hostile import Reply, hostile
from tests.test_cli_batch import BATCH, FINISHED, ROWS, TEXT

SENDING = {**BATCH, "status": "sending", "counts": {"queued": 1, "sent": 1}, "rate_per_second": 0.5}
ESCAPE = re.compile(r"\x1b\[[0-9;?]*([a-zA-Z])")


@pytest.fixture
def database_url(sqlite_url):
    """What is tested is the command."""
    return sqlite_url


@pytest.fixture
def contacts(tmp_path):
    path = tmp_path / "my contacts.csv"
    path.write_text(ROWS)
    return path


def open_terminal():
    try:
        return pty.openpty()
    except OSError:
        # A bare root, such as debootstrap makes, has none until this is mounted.
        subprocess.run(["mount", "-t", "devpts", "devpts", "/dev/pts"], check=True)
        return pty.openpty()


def in_a_terminal(*arguments, columns=80, **environ):
    """Run ``smsapi batch`` to its end in a terminal of this width; return its exit code and what the terminal got."""
    ours, theirs = open_terminal()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    given = environment(**{"TERM": "xterm", **environ})
    command, streams = [*SMSAPI, "batch", *arguments], dict.fromkeys(("stdin", "stdout", "stderr"), theirs)
    with subprocess.Popen(command, env=given, **streams) as process:
        os.close(theirs)
        shown = b""
        try:
            while piece := os.read(ours, 65536):
                shown += piece
        except OSError:
            # What Linux says once nobody has the other end any more.
            pass
        finally:
            os.close(ours)
    return process.returncode, shown.decode()


def lines_of(shown):
    """Return every state that a line of the terminal was in, without what moves the cursor or colours."""
    return [line for line in re.split(r"[\r\n]+", ESCAPE.sub("", shown)) if line.strip()]


def test_in_a_terminal_there_are_bars_no_wider_than_it_and_a_framed_table(contacts):
    ending = {**SENDING, "expected_end_at": "2026-12-24T18:00:00Z"}
    ended = {**FINISHED, "accepted_at": "2026-12-24T17:00:00Z", "finished_at": "2026-12-24T18:01:40Z"}
    with hostile([Reply(202, BATCH), Reply(200, ending), Reply(200, ended)]) as service:
        address = {"SMSAPI_URL": service.url, "SMSAPI_TOKEN": "smsk_test_x"}
        code, shown = in_a_terminal("send", str(contacts), "--text", TEXT, **address)
    assert code == 0, shown
    lines = lines_of(shown)
    bars = [line for line in lines if re.match("Uploaded|Queued|Sending|Finished", line)]
    assert {line.split()[0] for line in bars} == {"Uploaded", "Queued", "Sending", "Finished"}
    assert max(map(len, bars)) == 80
    assert any("1/2  50%   0.5/s 0:00:02" in line for line in bars)
    assert any("2/2 100%   0.0/s 1:01:40" in line for line in bars)
    assert any(line.startswith("│ status") and "finished" in line for line in lines)
    # The cursor is hidden while there is a bar, and not afterwards.
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")


@pytest.mark.parametrize(("environ", "is_coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_no_color_is_obeyed(contacts, environ, is_coloured):
    with hostile([Reply(202, BATCH), Reply(200, FINISHED)]) as service:
        address = {"SMSAPI_URL": service.url, "SMSAPI_TOKEN": "smsk_test_x"}
        code, shown = in_a_terminal("send", str(contacts), "--text", TEXT, **address, **environ)
    assert code == 0
    assert ("Uploaded" in shown, any(found == "m" for found in ESCAPE.findall(shown))) == (True, is_coloured)


def test_a_terminal_that_can_do_nothing_gets_lines(contacts):
    with hostile([Reply(202, BATCH), Reply(200, FINISHED)]) as service:
        address = {"SMSAPI_URL": service.url, "SMSAPI_TOKEN": "smsk_test_x", "PYTHONIOENCODING": "ascii"}
        code, shown = in_a_terminal("send", str(contacts), "--text", TEXT, **{**address, "TERM": "dumb"})
    assert code == 0
    assert "finished: 2 of 2 (100 %)" in shown
    assert "\x1b" not in shown
    assert shown.isascii()


@contextmanager
def started(service, *arguments):
    """Have ``smsapi batch`` at work, to be interrupted; yield the process."""
    given = environment(SMSAPI_URL=service.url, SMSAPI_TOKEN="smsk_test_HUSH")
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen([*SMSAPI, "batch", *arguments], env=given, text=True, **streams) as process:
        try:
            yield process
        finally:
            process.kill()


def interrupted(process):
    os.kill(process.pid, signal.SIGINT)
    out, said = process.communicate(timeout=20)
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in said
    assert "HUSH" not in said
    return said


def unread(pipe):
    """Return how many bytes of a pipe nobody has read."""
    return struct.unpack("i", fcntl.ioctl(pipe.fileno(), termios.FIONREAD, bytes(4)))[0]


class Deaf:
    """A server that takes a connection and reads nothing, or all there is, and never answers."""

    def __init__(self, *, reads):
        self._reads = reads
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._taken = []
        self.heard = b""
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        for each in (self._listening, *self._taken):
            each.close()
        self._thread.join(5)

    def is_called(self):
        return bool(self._taken)

    def _serve(self):
        try:
            connection, _ = self._listening.accept()
            self._taken.append(connection)
            while self._reads and (piece := connection.recv(65536)):
                self.heard += piece
        except OSError:
            # It is closed.
            return


def test_ctrl_c_within_the_upload_sends_nothing_and_the_command_it_names_takes_it_up_again(live, simulator, tmp_path):
    # More than the buffers of a connection hold.
    large = tmp_path / "my contacts.csv"
    junk = os.urandom(12_000_000).hex()
    rows = "".join(f"+1415555{2000 + place},{junk[place * 20_000 :][:20_000]}\n" for place in range(1200))
    large.write_text("to,name\n+14155552001,Ada\n" + rows)
    service = live()
    options = ("--text", "Hello", "--metadata", "shop=a b", "--no-wait")
    with Deaf(reads=False) as deaf, started(deaf, "send", str(large), *options) as process:
        eventually(deaf.is_called)
        said = interrupted(process)
    assert "interrupted: nothing is sent." in said
    words = shlex.split(said.rpartition("To take it up again: ")[2])
    key = words[words.index("--idempotency-key") + 1]
    assert f"Idempotency-Key: {key}" in said
    address = {"SMSAPI_URL": service.url, "SMSAPI_TOKEN": service.key}
    ended = called(*words[words.index("batch") :], **address)
    assert ended.exit_code == 0, ended.output
    assert "is taken: 1,200 of 1,201 rows" in ended.stderr


def test_ctrl_c_before_the_answer_says_that_the_batch_may_have_been_taken(contacts):
    with Deaf(reads=True) as deaf, started(deaf, "send", str(contacts), "--text", TEXT) as process:
        eventually(lambda: deaf.heard.endswith(ROWS.encode()))
        said = interrupted(process)
    assert "the batch may have been taken. To take it up again: " in said
    assert "--idempotency-key batch-" in said


def test_ctrl_c_while_a_pipe_is_read_sends_nothing(live):
    service = live()
    with started(service, "send", "-", "--format", "csv", "--text", TEXT) as process:
        process.stdin.write(ROWS)
        process.stdin.flush()
        eventually(lambda: unread(process.stdin) == 0)
        said = interrupted(process)
    assert "nothing was uploaded, and nothing is sent." in said
    assert service.request("GET", "/v1/batches").json()["data"] == []


def test_ctrl_c_while_it_is_sent_says_that_it_goes_on_and_how_to_watch_it(contacts):
    arguments = ("send", str(contacts), "--text", TEXT)
    with hostile([Reply(202, BATCH), Reply(200, SENDING)]) as service, started(service, *arguments) as process:
        eventually(lambda: len(service.asked) > 1)
        said = interrupted(process)
    assert f"{BATCH['id']} goes on being sent. To watch it again: smsapi batch watch {BATCH['id']}\n" in said


class Endless:
    """A pipe that nobody ends, of what does not shrink."""

    def __init__(self):
        self._piece = os.urandom(1024 * 1024)
        self.given = 0

    def read(self, size):
        self.given += size
        return self._piece[:size]


def test_a_pipe_that_never_ends_is_given_up_at_what_the_service_takes():
    endless = Endless()
    with pytest.raises(TooLarge):
        pack(endless, lambda _: None)
    assert MOST_ON_THE_WIRE < endless.given < MOST_ON_THE_WIRE + 1_000_000
