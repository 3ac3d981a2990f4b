"""``smsapi dev`` as a newcomer meets it: one command, a key that works, and nobody texted."""

import json
import shlex
import signal
import socket
import stat
import subprocess
import time
from datetime import UTC, datetime

import pytest
import requests

from smsapi import migrations
from smsapi.auth import service
from smsapi.auth.models import SCOPES
from smsapi.db import Database
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


def test_the_key_with_the_scope_admin_is_printed_on_request(tmp_path):
    with subprocess.Popen(
        [*SMSAPI, "dev", "--bind", "127.0.0.1:0", "--state", str(tmp_path), "--admin-key"],
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        lines = [process.stdout.readline()]
        while "admin" not in lines[-1]:
            lines.append(process.stdout.readline())
            assert lines[-1]
        kept = json.loads((tmp_path / "dev.json").read_text())
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert lines[-1] == f"Its key with the scope admin: {kept['admin_key']}\n"


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
        assert len(curls) == 4
        sent = asked(curls[0])
        assert asked(curls[1])["data"][0]["id"] == sent["id"]
        assert asked(curls[2])["accepted"] == 2
        assert asked(curls[3])["message_uuid"]
        assert "admin" not in "".join(lines)
        # The report about what was just sent is still to come, and does not hold it up.
        started = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, complaints = process.communicate(timeout=60)
    assert time.monotonic() - started < 30
    assert process.returncode == 0
    assert complaints == ""


def ask(shown, path, key="key", method="GET", **body):
    headers = {"X-API-Key": shown[key]}
    return requests.request(method, shown["url"] + path, headers=headers, json=body or None, timeout=30)


def test_the_printed_key_may_do_all_but_admin_and_a_second_one_all(tmp_path):
    with dev("--bind", "127.0.0.1:0", "--state", str(tmp_path)) as (_, shown):
        for path in ("messages", "opt-outs", "webhook-endpoints", "events", "api-keys", "inbound-messages", "limits"):
            assert ask(shown, f"/v1/{path}").status_code == 200, path
        assert ask(shown, "/v1/clients").status_code == 403
        assert ask(shown, "/v1/clients", "admin_key").status_code == 200
        token = ask(shown, "/v1/auth/token", method="POST", api_key=shown["key"]).json()
        assert set(token["scope"].split()) == set(SCOPES) - {"admin"}


def test_a_state_of_an_earlier_release_keeps_its_key_which_gets_the_scopes_of_today(tmp_path):
    store = Database(f"sqlite:///{tmp_path / 'dev.db'}")
    migrations.upgrade(store)
    with store.transaction() as connection:
        now = datetime.now(UTC)
        client = service.create_client(connection, now, name="demo")
        old = ("messages:send", "messages:read", "keys", "admin")
        _, key = service.issue_key(connection, now, client_id=client.id, name="demo", live=True, scopes=old)
    store.close()
    (tmp_path / "dev.json").write_text(json.dumps({"jwt_secret": "s" * 43, "key": key}))
    with dev("--bind", "127.0.0.1:0", "--state", str(tmp_path)) as (_, shown):
        assert shown["key"] == key
        assert json.loads((tmp_path / "dev.json").read_text())["jwt_secret"] == "s" * 43
        assert ask(shown, "/v1/opt-outs").status_code == 200
        assert ask(shown, "/v1/clients").status_code == 403
        assert [each["name"] for each in ask(shown, "/v1/clients", "admin_key").json()["data"]] == ["demo"]


def test_a_stop_is_heard_and_the_next_message_to_that_number_is_refused(tmp_path):
    with dev("--bind", "127.0.0.1:0", "--state", str(tmp_path)) as (_, shown):
        assert asked(shown["batch"])["accepted"] == 2
        asked(shown["stop"])
        (entry,) = eventually(lambda: ask(shown, "/v1/opt-outs").json()["data"])
        refused = ask(shown, "/v1/messages", method="POST", to=entry["number"], text="Hello")
        assert (refused.status_code, refused.json()["code"]) == (422, "recipient_opted_out")


def test_webhooks_may_go_to_this_machine_and_not_to_its_network(tmp_path):
    with dev("--bind", "127.0.0.1:0", "--state", str(tmp_path)) as (_, shown):
        for url in ("http://127.0.0.1:45123/hook", "http://localhost:9000/", "http://[::1]:9000/"):
            made = ask(shown, "/v1/webhook-endpoints", method="POST", url=url)
            assert made.status_code == 201, made.text
        for url in ("http://10.0.0.1/", "http://169.254.169.254/"):
            assert ask(shown, "/v1/webhook-endpoints", method="POST", url=url).status_code == 422


def test_the_line_for_the_shell_lets_the_command_find_itself_the_service_and_the_key(tmp_path):
    with dev("--bind", "127.0.0.1:0", "--state", str(tmp_path), PATH="/usr/bin:/bin") as (_, shown):
        ended = subprocess.run(
            ["/bin/sh", "-ec", f"{shown['shell']}; smsapi send --to +14155550123 --text Deployed"],
            env={"PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("msg_")


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
