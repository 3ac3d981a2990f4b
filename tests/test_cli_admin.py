"""``smsapi db``, ``clients`` and ``keys``: what they print, what they make, and how they refuse."""

import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from click.testing import CliRunner

from smsapi import migrations
from smsapi.auth import service
from smsapi.auth.models import api_keys, clients
from smsapi.cli import cli
from smsapi.db import Database
from smsapi.errors import SmsapiError
from tests.support.auth import ask_for_token, everything_stored, run_on_server, whoami, with_key, world
from tests.support.command import run as run_apart

_background = ThreadPoolExecutor(4)
NOT_MIGRATED = "The database has not the schema of this version. Run: smsapi db upgrade"
UNKNOWN_CLIENT, UNKNOWN_KEY = f"cli_{0:032}", f"key_{0:032}"


@pytest.fixture
def run(database_url):
    """Run a command on this test's store; the answer has ``exit_code``, ``stdout``, ``stderr`` and ``exception``."""
    return lambda *words: run_on(database_url, *words)


@pytest.fixture
def run_json(run):
    """Run a command with --json and return what it printed, which is one JSON document and nothing else."""

    def call(*words):
        done = run(*words, "--json")
        assert (done.exit_code, done.stderr) == (0, ""), done.output
        return json.loads(done.stdout)

    return call


@pytest.fixture(params=["sqlite", "postgresql"])
def bare_url(request, tmp_path):
    """A store without any schema."""
    if request.param == "sqlite":
        (tmp_path / "bare.db").touch()
        yield f"sqlite:///{tmp_path / 'bare.db'}"
        return
    server, name = request.getfixturevalue("postgres"), f"bare_{uuid4().hex}"
    run_on_server(server, f"CREATE DATABASE {name}")
    yield f"{server.rpartition('/')[0]}/{name}"
    run_on_server(server, f"DROP DATABASE {name} WITH (FORCE)")


def run_on(database_url, *words):
    return CliRunner().invoke(cli, words, env={"SMSAPI_DATABASE_URL": database_url})


def start(*words, database_url):
    """Run the command in a process of its own, and do not wait for it."""
    return _background.submit(run_apart, *words, SMSAPI_DATABASE_URL=database_url)


def ended(running):
    done = running.result(60)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def rows_of(url, table):
    database = Database(url)
    with database.read() as connection:
        found = connection.execute(table.select()).all()
    database.close()
    return found


def test_a_client_and_a_key_are_made_and_printed_as_the_api_would(app, run_json):
    client = run_json("clients", "create", "Billing")
    words = ["--client", client["id"], "--name", "ci", "--mode", "live", "--scope", "messages:send"]
    made = run_json("keys", "create", *words, "--scope", "messages:read", "--scope", "admin", "--scope", "keys")
    shown = {name: value for name, value in made.items() if name != "key"}
    headers = {"X-API-Key": made["key"]}
    assert app.test_client().get("/v1/clients", headers=headers).get_json()["data"] == [client]
    assert app.test_client().get("/v1/api-keys", headers=headers).get_json()["data"] == [shown]
    assert run_json("clients", "list") == {"data": [client], "next_cursor": None}
    assert run_json("keys", "list") == {"data": [shown], "next_cursor": None}
    assert made["scopes"] == ["messages:send", "messages:read", "keys", "admin"]
    assert with_key(app, made["key"]).get_json()["client_name"] == "Billing"
    assert made["key"].rpartition("_")[2][:32] not in everything_stored(app)


def test_a_client_takes_every_option_as_the_api_would(run_json):
    options = {
        "--default-sender": ["ACME"],
        "--allowed-sender": ["ACME", "+14155550100"],
        "--allowed-country": ["us", "DE"],
        "--limit": ["send=5 per minute; 9 per day", "api=1 per hour"],
    }
    words = [word for option, values in options.items() for value in values for word in (option, value)]
    made = run_json("clients", "create", "Größe", *words)
    assert made["name"] == "Größe"
    assert made["default_sender"] == "ACME"
    assert made["allowed_senders"] == ["ACME", "+14155550100"]
    assert made["allowed_countries"] == ["US", "DE"]
    assert made["limits"] == {"send": "5 per minute; 9 per day", "api": "1 per hour"}


def test_without_json_the_secret_alone_is_on_stdout(run, app, make_caller):
    owner = make_caller(app)
    made = run("clients", "create", "Billing")
    assert re.fullmatch(r"Made client cli_[0-9a-f]{32} \(Billing\)\.\n", made.stdout)
    for words in (["create", "--client", owner.client_id, "--name", "ci"], ["rotate", owner.key_id]):
        done = run("keys", *words)
        assert done.exit_code == 0
        key = done.stdout.rstrip("\n")
        assert with_key(app, key).status_code == 200
        assert key not in done.stderr
        assert "key_" in done.stderr


def test_a_key_made_without_options_is_live_and_may_send_and_read(run_json, app, make_caller):
    made = run_json("keys", "create", "--client", make_caller(app).client_id, "--name", "ci")
    assert (made["mode"], made["scopes"]) == ("live", ["messages:send", "messages:read"])
    assert made["expires_at"] is None
    words = ["--client", made["client_id"], "--name", "t", "--mode", "test", "--expires-in-days", "30"]
    made = run_json("keys", "create", *words)
    assert made["mode"] == "test"
    assert made["expires_at"] > made["created_at"]


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_revoking_in_another_process_ends_the_key_and_its_tokens_here_at_once(app, make_caller, database_url):
    owner = make_caller(app)
    token = ask_for_token(app, owner.key).get_json()["access_token"]
    assert whoami(app, token).status_code == 200
    done = ended(start("keys", "revoke", owner.key_id, database_url=database_url))
    assert done == (0, f"Revoked {owner.key_id}.\n", "")
    assert with_key(app, owner.key).status_code == 401
    assert whoami(app, token).status_code == 401


def test_rotating_keeps_the_old_key_for_the_overlap(run, run_json, app, make_caller):
    owner = make_caller(app, scopes=("keys", "usage"))
    made = run_json("keys", "rotate", owner.key_id, "--overlap-seconds", "60")
    assert (made["scopes"], made["client_id"]) == (["keys", "usage"], owner.client_id)
    for key in (owner.key, made["key"]):
        assert with_key(app, key).status_code == 200
    assert made["replaces"]["id"] == owner.key_id
    seconds = datetime.fromisoformat(made["replaces"]["works_until"]) - datetime.fromisoformat(made["created_at"])
    assert seconds == timedelta(seconds=60)
    said = run("keys", "rotate", owner.key_id, "--overlap-seconds", "60").stderr
    assert made["replaces"]["works_until"][:10] in said
    assert f"To end it now: smsapi keys revoke {owner.key_id}\n" in said
    assert "has stopped working" in run("keys", "rotate", owner.key_id, "--overlap-seconds", "0").stderr
    assert with_key(app, owner.key).status_code == 401
    assert with_key(app, made["key"]).status_code == 200
    again = run("keys", "rotate", owner.key_id)
    assert isinstance(again.exception, SmsapiError)
    assert "cannot be rotated" in str(again.exception)


def test_a_list_of_keys_is_of_one_client_or_of_all_and_says_what_became_of_each(run, run_json, app, make_caller):
    one, two = make_caller(app, name="one"), make_caller(app, name="two")
    run("keys", "rotate", two.key_id, "--overlap-seconds", "0")
    run("keys", "revoke", one.key_id)
    made = run_json("keys", "create", "--client", one.client_id, "--name", "ci", "--expires-in-days", "2")
    assert len(run_json("keys", "list")["data"]) == 4
    shown = run_json("keys", "list", "--client", one.client_id)["data"]
    assert [key["id"] for key in shown] == [made["id"], one.key_id]
    lines = {line.split()[0]: line for line in run("keys", "list").stdout.splitlines()}
    assert "revoked" in lines[one.key_id]
    assert "expires 2" in lines[made["id"]]
    assert "expired 2" in lines[two.key_id]
    assert len([line for line in lines.values() if " works " in line]) == 1


def test_a_list_holds_more_than_a_page(run, run_json, app):
    now = datetime.now(UTC)
    with world(app).database.transaction() as connection:
        made = [service.create_client(connection, now, name=f"c{number}") for number in range(203)]
        order = {"client_id": made[7].id, "name": "k", "live": True, "scopes": ("keys",)}
        keys = [service.issue_key(connection, now, **order)[0] for _ in range(101)]
    assert [each["name"] for each in run_json("clients", "list")["data"]] == [each.name for each in made[::-1]]
    assert len(run("clients", "list").stdout.splitlines()) == 203
    assert [each["id"] for each in run_json("keys", "list")["data"]] == [f"key_{key.id.hex}" for key in keys[::-1]]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["clients", "create"], "NAME"),
        (["clients", "create", ""], "NAME"),
        (["clients", "create", "n" * 101], "NAME"),
        (["clients", "create", "a\nb"], "NAME"),
        (["clients", "create", os.fsdecode(b"\xff")], "NAME"),
        (["clients", "create", "x", "--default-sender", "no sender"], "--default-sender"),
        (["clients", "create", "x", "--default-sender", "House", "--allowed-sender", "ACME"], "--default-sender"),
        (["clients", "create", "x", "--allowed-sender", "ACME", "--allowed-sender", "+1"], "+1"),
        (["clients", "create", "x", "--allowed-country", "XX"], "XX"),
        (["clients", "create", "x", "--allowed-country", "USA"], "USA"),
        (["clients", "create", "x", "--limit", "send"], "send"),
        (["clients", "create", "x", "--limit", "all=5 per minute"], "all=5 per minute"),
        (["clients", "create", "x", "--limit", "send=many"], "many"),
        (["clients", "create", "x", "--limit", "send="], "--limit"),
        (["clients", "create", "x", "--limit", "send=5 per 99999999999 year"], "--limit"),
        (["keys", "create", "--name", "x"], "--client"),
        (["keys", "create", "--client", "nobody", "--name", "x"], "--client"),
        (["keys", "create", "--client", UNKNOWN_KEY, "--name", "x"], "key_000"),
        (["keys", "create", "--client", UNKNOWN_CLIENT], "--name"),
        (["keys", "create", "--client", UNKNOWN_CLIENT, "--name", ""], "--name"),
        (["keys", "create", "--client", UNKNOWN_CLIENT, "--name", "a\tb"], "--name"),
        (["keys", "create", "--client", UNKNOWN_CLIENT, "--name", "x", "--mode", "prod"], "prod"),
        (["keys", "create", "--client", UNKNOWN_CLIENT, "--name", "x", "--scope", "root"], "root"),
        (["keys", "create", "--client", UNKNOWN_CLIENT, "--name", "x", "--expires-in-days", "0"], "days"),
        (["keys", "list", "--client", "x"], "--client"),
        (["keys", "revoke", "x"], "KEY_ID"),
        (["keys", "rotate", UNKNOWN_CLIENT], "KEY_ID"),
        (["keys", "rotate", UNKNOWN_KEY, "--overlap-seconds", "-1"], "--overlap-seconds"),
        (["keys", "rotate", UNKNOWN_KEY, "--overlap-seconds", "2592001"], "--overlap-seconds"),
    ],
)
def test_bad_input_is_named_and_makes_nothing(run, database_url, words, named):
    done = run(*words)
    assert done.exit_code == 2
    assert named in done.stderr
    assert done.stdout == ""
    assert rows_of(database_url, clients) == []
    assert rows_of(database_url, api_keys) == []


def test_what_is_not_there_is_a_sentence(run):
    for words in (["list", "--client", UNKNOWN_CLIENT], ["create", "--client", UNKNOWN_CLIENT, "--name", "x"]):
        assert str(run("keys", *words).exception) == "There is no such client."
    for words in (["revoke", UNKNOWN_KEY], ["rotate", UNKNOWN_KEY]):
        assert str(run("keys", *words).exception) == "There is no such API key."


def test_a_database_without_the_schema_is_told_of_and_upgraded_from_two_places_at_once(bare_url):
    for words in (["clients", "list"], ["clients", "create", "x"], ["keys", "list"], ["keys", "revoke", UNKNOWN_KEY]):
        refused = run_on(bare_url, *words)
        assert isinstance(refused.exception, SmsapiError)
        assert (str(refused.exception), refused.stdout) == (NOT_MIGRATED, "")
    for process in [start("db", "upgrade", database_url=bare_url) for _ in range(2)]:
        assert ended(process) == (0, "The database is up to date.\n", "")
    database = Database(bare_url)
    assert migrations.is_current(database)
    database.close()
    assert rows_of(bare_url, clients) == []


def test_upgrading_again_changes_nothing(run, app, make_caller):
    owner = make_caller(app)
    assert run("db", "upgrade").stdout == "The database is up to date.\n"
    assert with_key(app, owner.key).status_code == 200


def test_an_error_of_ours_is_one_line_on_stderr_and_exit_code_1(tmp_path):
    (tmp_path / "bare.db").touch()
    code, stdout, stderr = ended(start("clients", "list", database_url=f"sqlite:///{tmp_path / 'bare.db'}"))
    assert (code, stdout, stderr) == (1, "", f"smsapi: {NOT_MIGRATED}\n")


@pytest.mark.parametrize(
    ("url", "cause"),
    [
        ("sqlite:////nowhere/x.db", "unable to open database file"),
        ("postgresql://nobody:hush-hush@127.0.0.1:1/none", "127.0.0.1"),
        ("mysql://x/y", "sqlite:///"),
    ],
)
@pytest.mark.parametrize("words", [["db", "upgrade"], ["clients", "list"]])
def test_a_database_that_cannot_be_used_is_one_line_that_names_the_setting(url, cause, words):
    refused = run_on(url, *words)
    assert isinstance(refused.exception, SmsapiError)
    assert "SMSAPI_DATABASE_URL" in str(refused.exception)
    assert cause in str(refused.exception)
    assert "hush-hush" not in str(refused.exception)
    assert len(str(refused.exception).splitlines()) == 1
