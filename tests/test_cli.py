"""The ``smsapi`` command as a whole: what it prints, and how it fails."""

import re
import signal
import subprocess
import tomllib
from pathlib import Path

import pytest
import requests

from smsapi.errors import SmsapiError
from tests.support.command import SMSAPI, called, environment, run

ROOT = Path(__file__).parents[1]


def test_the_version_is_that_of_the_package():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    ended = called("--version")
    assert (ended.exit_code, ended.stdout) == (0, f"smsapi, version {declared}\n")


def test_the_command_that_is_installed_is_this_one():
    script = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]["smsapi"]
    assert script == "smsapi.cli:main"


@pytest.mark.parametrize("arguments", [("-h",), ("--help",), ("send", "-h"), ("keys", "create", "--help")])
def test_help_is_there_without_any_setting(arguments):
    ended = called(*arguments)
    assert ended.exit_code == 0
    assert ended.stdout.startswith("Usage: ")


@pytest.mark.parametrize("arguments", [("no-such",), ("send", "extra"), ("serve", "--port", "1"), ("db",)])
def test_wrong_usage_is_2_and_says_what_is_right(arguments):
    ended = called(*arguments)
    assert ended.exit_code == 2
    assert "Usage: " in ended.output


def test_the_specification_is_printed_as_it_is_committed():
    assert called("openapi").stdout_bytes == (ROOT / "openapi.yaml").read_bytes()


def test_the_settings_are_printed_as_they_are_documented():
    assert called("settings").stdout == (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")


def test_what_the_environment_says_does_not_change_what_is_printed():
    assert called("openapi", SMSAPI_DOCS="false", SMSAPI_WORKERS="nonsense").exit_code == 0


def test_a_bad_setting_stops_a_command_with_its_name(tmp_path):
    ended = called("clients", "create", "x", SMSAPI_DATABASE_URL="mysql://u:HUSH@h/d")
    assert isinstance(ended.exception, SmsapiError)
    assert ended.exception.detail.startswith("SMSAPI_DATABASE_URL must be ")
    assert "HUSH" not in ended.exception.detail


def test_a_database_without_the_schema_is_one_clear_sentence(tmp_path):
    ended = called("clients", "list", SMSAPI_DATABASE_URL=f"sqlite:///{tmp_path}/new.db")
    assert isinstance(ended.exception, SmsapiError)
    assert "smsapi db upgrade" in ended.exception.detail


@pytest.mark.parametrize("command", [("clients", "list"), ("db", "upgrade")])
def test_a_database_that_is_not_there_is_a_sentence_and_no_traceback(command):
    address = "postgresql://smsapi:HUSH@127.0.0.1:1/smsapi"
    ended = run(*command, SMSAPI_DATABASE_URL=address)
    assert ended.returncode == 1
    assert ended.stdout == b""
    assert b"Traceback" not in ended.stderr
    assert b"HUSH" not in ended.stderr
    assert all(line.startswith("smsapi: ") for line in ended.stderr.decode().splitlines())


def test_a_client_and_its_key_are_made_and_shown_once(tmp_path):
    store = {"SMSAPI_DATABASE_URL": f"sqlite:///{tmp_path}/smsapi.db"}
    assert called("db", "upgrade", **store).exit_code == 0
    made = called("clients", "create", "billing", **store)
    client_id = re.search(r"cli_[0-9a-f]{32}", made.stdout)[0]
    key = called("keys", "create", "--client", client_id, "--name", "first", **store)
    assert re.fullmatch(r"smsk_live_[0-9a-f]{32}_\w+\n", key.stdout)
    assert key.stdout.strip() not in called("keys", "list", "--json", **store).output


def test_the_simulator_plays_plivo_until_it_is_stopped():
    with subprocess.Popen(
        [*SMSAPI, "simulator", "--bind", "127.0.0.1:0"], env=environment(), stderr=subprocess.PIPE, text=True
    ) as process:
        url = process.stderr.readline().split()[-1]
        auth = ("MASIMULATOR000000000", "simulator-token")
        address = f"{url}/v1/Account/{auth[0]}/Message/"
        body = {"src": "+14155550100", "dst": "+14155550123", "text": "Hello"}
        assert requests.post(address, json=body, auth=("MAWRONG", "x"), timeout=10).status_code == 401
        taken = requests.post(address, json=body, auth=auth, timeout=10)
        assert taken.status_code == 202
        assert len(taken.json()["message_uuid"]) == 1
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=20)[1]
    assert process.returncode == 0
    assert said == ""
