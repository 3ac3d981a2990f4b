"""``smsapi dev`` as a newcomer meets it: one command, a key that works, and nobody texted."""

import json
import shlex
import signal
import socket
import stat
import subprocess
import time

import pytest
import requests

from smsapi.errors import SmsapiError
from tests.conftest import eventually, free_port
from tests.support.api import SENT_OR_REPORTED
from tests.support.command import SMSAPI, called, dev, environment


def asked(line):
    """Do what the curl line says, read as a shell would."""
    words = shlex.split(line)
    assert words[:2] == ["curl", "-sS"]
    url, rest = words[2], words[3:]
    given = list(zip(rest[::2], rest[1::2], strict=True))
    headers = dict(value.split(": ", 1) for flag, value in given if flag == "-H")
    data = next((value for flag, value in given if flag == "-d"), None)
    answer = requests.request("GET" if data is None else "POST", url, headers=headers, data=data, timeout=30)
    assert answer.status_code < 300, answer.text
    return answer.json()


def test_both_lines_work_and_the_message_ends_delivered_whatever_the_environment_says(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        trap = f"http://127.0.0.1:{elsewhere.getsockname()[1]}"
        environ = {
            "PLIVO_AUTH_ID": "MAREALREALREALREAL00",
            "PLIVO_AUTH_TOKEN": "real-token",
            "PLIVO_SENDER_ID": "+14155559999",
            "SMSAPI_PLIVO_URL": trap,
            "SMSAPI_PUBLIC_URL": trap,
            "SMSAPI_DATABASE_URL": f"sqlite:///{tmp_path}/other.db",
            "SMSAPI_REDIS_URL": "redis://127.0.0.1:1",
            "SMSAPI_WORKERS": "nonsense",
        }
        with dev("--bind", "127.0.0.1:0", "--state", str(tmp_path / "var"), **environ) as (process, shown):
            assert stat.S_IMODE((tmp_path / "var").stat().st_mode) == 0o700
            sent = asked(shown["send"])
            assert (sent["test"], sent["from"]) == (False, "+14155550100")
            assert sent["status"] in SENT_OR_REPORTED
            delivered = eventually(lambda: (m := asked(shown["look"])["data"][0])["status"] == "delivered" and m)
            assert delivered["id"] == sent["id"]
            assert len(requests.get(f"{shown['simulator']}/_taken", timeout=10).json()) > 0
            for path in ("/healthz", "/readyz", "/docs", "/openapi.yaml"):
                assert requests.get(shown["url"] + path, timeout=10).status_code == 200, path
            with requests.Session() as session:
                session.get(f"{shown['url']}/healthz", timeout=10)
                # A connection that is kept open does not hold it up.
                started = time.monotonic()
                process.send_signal(signal.SIGTERM)
                assert process.wait(timeout=60) == 0
                assert time.monotonic() - started < 30
        elsewhere.settimeout(0)
        with pytest.raises(BlockingIOError):
            elsewhere.accept()
    assert not (tmp_path / "other.db").exists()


def test_a_key_that_was_pasted_works_after_a_restart_and_only_its_owner_may_read_it(tmp_path):
    kept = tmp_path / "dev.json"
    kept.write_text('{"jwt_secret": "spoilt", "key": ["smsk_live_"]}')
    kept.chmod(0o644)
    (tmp_path / "dev.db").touch(mode=0o644)
    arguments = ("--bind", f"[::1]:{free_port()}", "--state", str(tmp_path))
    with dev(*arguments) as (_, first):
        assert first["url"].startswith("http://[::1]:")
        assert json.loads(kept.read_text())["key"] == first["key"]
        for mine in tmp_path.iterdir():
            assert stat.S_IMODE(mine.stat().st_mode) == 0o600, mine
        sent = asked(first["send"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dev.db", "dev.json"]
    with dev(*arguments) as (_, second):
        assert (second["key"], second["url"]) == (first["key"], first["url"])
        assert asked(first["look"])["data"][0]["id"] == sent["id"]


def test_without_json_it_prints_the_same_for_people_and_ctrl_c_is_no_failure(tmp_path):
    with subprocess.Popen(
        [*SMSAPI, "dev", "--bind", "127.0.0.1:0", "--state", str(tmp_path)],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        lines = [process.stdout.readline()]
        while "Ctrl-C" not in lines[-1]:
            lines.append(process.stdout.readline())
            assert lines[-1], process.stderr.read()
        curls = [line.strip() for line in lines if line.strip().startswith("curl")]
        assert len(curls) == 2
        sent = asked(curls[0])
        assert asked(curls[1])["data"][0]["id"] == sent["id"]
        # The report about what was just sent is still to come, and does not hold it up.
        started = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, complaints = process.communicate(timeout=60)
    assert time.monotonic() - started < 30
    assert process.returncode == 0
    assert complaints == ""


@pytest.mark.parametrize("option", ["--bind", "--simulator-port"])
def test_a_taken_port_is_one_clear_sentence(tmp_path, option):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        bind = f"127.0.0.1:{port if option == '--bind' else 0}"
        where = () if option == "--bind" else (option, str(port))
        ended = called("dev", "--state", str(tmp_path / "var"), "--bind", bind, *where)
    assert isinstance(ended.exception, SmsapiError)
    assert ended.output == ""
    assert ended.exception.detail.startswith(f"127.0.0.1:{port} cannot be listened on; is it taken? Use {option}")
    assert not (tmp_path / "var").exists()


def test_a_state_that_cannot_be_used_is_one_clear_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "spoilt").mkdir()
    (tmp_path / "spoilt" / "dev.db").write_text("no database, " * 1000)
    for state in (tmp_path / "file" / "var", tmp_path / "spoilt"):
        ended = called("dev", "--bind", "127.0.0.1:0", "--state", str(state))
        assert isinstance(ended.exception, SmsapiError)
        assert ended.exception.detail.startswith(f"The state in {state} cannot be used: ")
        assert "\n" not in ended.exception.detail


@pytest.mark.parametrize("bind", ["8000", "localhost", "127.0.0.1:99999", "127.0.0.1:x", ":"])
def test_a_wrong_address_is_wrong_usage(tmp_path, bind):
    ended = called("dev", "--bind", bind, "--state", str(tmp_path / "var"))
    assert ended.exit_code == 2
    assert "is not HOST:PORT" in ended.output
