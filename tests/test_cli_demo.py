"""The operators' commands beside ``smsapi dev``: they find the demo that runs there, and never by surprise.

The demo has a SQLite file, so there is no other store to run these on.
"""

import json
import shutil
import signal
from contextlib import chdir

import pytest

from smsapi.errors import SmsapiError
from tests.support.command import called, dev

LOOKING = (
    *(("clients", "list"), ("keys", "list"), ("queue", "status"), ("doctor",)),
    *(("messages", "show", f"msg_{0:032}"), ("messages", "retry", f"msg_{0:032}")),
    *(("keys", "revoke", f"key_{0:032}"), ("keys", "rotate", f"key_{0:032}")),
    *(("clients", "create", "x"), ("keys", "create", "--client", f"cli_{0:032}", "--name", "x")),
    *(("queue", "pause"), ("queue", "resume"), ("queue", "drain", "--timeout", "0")),
    ("privacy", "erase", "--number", "+14155550123"),
)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The directory in which a demo runs, and what it printed."""
    directory = tmp_path_factory.mktemp("checkout")
    with dev("--bind", "127.0.0.1:0", "--state", str(directory / "var")) as (_, shown):
        yield directory, shown


@pytest.fixture
def beside(demo):
    """The same, as the working directory."""
    with chdir(demo[0]):
        yield demo[1]


def using(shown):
    return f"smsapi: using the demo that runs in var/ ({shown['url']}).\n"


def test_a_command_beside_the_demo_works_on_its_database_and_says_so_in_one_line(beside):
    for words in (("queue", "pause"), ("queue", "resume"), ("keys", "list"), ("clients", "list"), ("doctor",)):
        ended = called(*words)
        assert (ended.exit_code, ended.stderr) == (0, using(beside)), ended.output
    assert "public_url      " + beside["url"] in called("doctor").stdout
    (client,) = json.loads(called("clients", "list", "--json").stdout)["data"]
    assert client["name"] == "demo"
    made = called("keys", "create", "--client", client["id"], "--name", "mine", "--json")
    assert json.loads(made.stdout)["key"].startswith("smsk_live_")


def test_the_paces_that_it_shows_are_those_of_the_demo(beside):
    status = json.loads(called("queue", "status", "--json").stdout)
    # Plivo's own pace would be 5.
    assert status["paces"]["account"] == 0


def test_what_works_on_the_whole_service_beside_the_demo_works_with_its_settings(beside):
    erased = called("privacy", "erase", "--number", "+14155550177", "--json")
    assert json.loads(erased.stdout)["canceled"] == 0, erased.output


@pytest.mark.parametrize("name", ["SMSAPI_DATABASE_URL", "PLIVO_AUTH_ID", "SMSAPI_JWT_SECRET_FILE", "SMSAPI_REDIS_URL"])
def test_where_a_setting_is_set_the_demo_is_left_alone_and_that_is_said(beside, tmp_path, name):
    value = f"sqlite:///{tmp_path}/other.db" if name == "SMSAPI_DATABASE_URL" else str(tmp_path)
    ended = called("queue", "pause", **{name: value})
    assert isinstance(ended.exception, SmsapiError)
    assert ended.stderr == f"smsapi: not using the demo that runs in var/, because {name} is set.\n"
    assert called("doctor").exit_code == 0


def test_a_default_database_comes_before_the_demo_and_an_empty_file_is_none(demo, tmp_path):
    (tmp_path / "var").symlink_to(demo[0] / "var")
    with chdir(tmp_path):
        assert called("clients", "list").stderr == using(demo[1])
        (tmp_path / "smsapi.db").touch()
        assert called("clients", "list").stderr == using(demo[1])
        assert called("db", "upgrade").exit_code == 0
        ended = called("clients", "list")
        assert (ended.exit_code, ended.output) == (0, "")
        (tmp_path / "smsapi.db").write_text("damaged, " * 1000)
        assert called("clients", "list").exit_code == 1


def test_a_copy_of_the_demo_s_files_and_a_demo_that_has_ended_are_not_found(demo, tmp_path):
    shutil.copytree(demo[0] / "var", tmp_path / "copied" / "var")
    with dev("--bind", "127.0.0.1:0", "--state", str(tmp_path / "ended" / "var")) as (process, _):
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=60)
    for directory in ("copied", "ended"):
        with chdir(tmp_path / directory):
            ended = called("clients", "list")
        assert (ended.exit_code, ended.stderr) == (1, "")
        assert str(ended.exception).startswith("There is no database: smsapi.db does not exist.")


@pytest.mark.parametrize("words", LOOKING, ids=" ".join)
@pytest.mark.parametrize("url", [None, "sqlite:///given.db"])
def test_no_command_but_db_upgrade_makes_a_database(tmp_path, words, url):
    with chdir(tmp_path):
        ended = called(*words, **({} if url is None else {"SMSAPI_DATABASE_URL": url}))
    assert ended.exit_code == 1
    assert list(tmp_path.iterdir()) == []
    if words != ("doctor",):
        assert isinstance(ended.exception, SmsapiError)
        name = "smsapi.db" if url is None else "given.db"
        assert str(ended.exception).startswith(f"There is no database: {name} does not exist. ")
        assert str(ended.exception).endswith(", or make it with: smsapi db upgrade")
    with chdir(tmp_path):
        assert called("db", "upgrade").stdout == "The database is up to date.\n"
    assert (tmp_path / "smsapi.db").stat().st_size > 0
