"""deploy/: the units of systemd, the settings and nginx's configuration, against the service and against each other.

systemd and nginx judge them too where they are installed.
"""

import os
import re
import shlex
import shutil
import subprocess
from configparser import ConfigParser
from dataclasses import fields
from pathlib import Path

import pytest

from smsapi.cli import cli
from smsapi.settings import Settings, read_settings
from tests.test_image import read_env

DEPLOY = Path(__file__).parents[1] / "deploy"
UNITS = sorted(path.name for path in DEPLOY.glob("*.service"))
NGINX = (DEPLOY / "nginx.conf").read_text(encoding="utf-8")
REQUIRED = {
    "SMSAPI_JWT_SECRET": "0" * 64,
    "PLIVO_AUTH_ID": "MA" + "0" * 18,
    "PLIVO_AUTH_TOKEN": "token",
    "PLIVO_SENDER_ID": "+14155550100",
    "SMSAPI_PUBLIC_URL": "https://sms.example.com",
}


def unit(name):
    parsed = ConfigParser(strict=True, interpolation=None)
    parsed.optionxform = str
    parsed.read_string((DEPLOY / name).read_text(encoding="utf-8"))
    return parsed


def test_there_is_a_unit_for_each_of_schema_api_and_worker():
    assert UNITS == ["smsapi-migrate.service", "smsapi-worker.service", "smsapi.service"]


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_runs_a_command_that_there_is_with_the_settings_of_the_file(name):
    service = unit(name)["Service"]
    program, *words = shlex.split(service["ExecStart"])
    assert program == "/opt/smsapi/bin/smsapi"
    command = cli
    for word in words:
        command = command.get_command(None, word)
        assert command is not None, word
    assert service["EnvironmentFile"] == "/etc/smsapi/smsapi.env"
    assert service["User"] == "smsapi"
    for variable in filter(None, [service.get("Environment")]):
        assert variable.partition("=")[0] in {each.metadata["name"] for each in fields(Settings)}


@pytest.mark.parametrize("name", ["smsapi.service", "smsapi-worker.service"])
def test_what_serves_waits_for_the_schema_and_is_given_the_time_to_stop(name):
    parsed = unit(name)
    assert parsed["Unit"]["Requires"] == parsed["Unit"]["After"] == "smsapi-migrate.service"
    assert int(parsed["Service"]["TimeoutStopSec"]) > read_settings({}).graceful_seconds
    assert parsed["Service"]["Restart"] == "always"


def test_the_file_of_settings_lacks_only_what_it_says_and_is_read_by_a_shell_as_by_systemd():
    given = read_env("smsapi.env")
    assert {name for name in REQUIRED if not given[name]} == set(REQUIRED)
    settings = read_settings(given | REQUIRED, to_serve=True)
    assert settings.trusted_proxies == 1
    assert f"proxy_pass http://{settings.bind};" in NGINX
    names = {each.metadata["name"] for each in fields(Settings)}
    assert given.keys() <= names
    printed = subprocess.run(
        ["/bin/sh", "-euc", f"set -a; . {shlex.quote(str(DEPLOY / 'smsapi.env'))}; env"],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert given.items() <= dict(line.split("=", 1) for line in printed.splitlines()).items()


def test_nginx_lets_through_what_the_service_takes_and_nothing_that_a_caller_claims_to_be():
    assert "client_max_body_size 64m;" in NGINX
    assert "proxy_set_header X-Forwarded-For $remote_addr;" in NGINX
    # A caller may wait for Plivo for 30 seconds.
    assert int(re.search(r"proxy_read_timeout (\d+)s;", NGINX)[1]) > 30
    assert NGINX.count("{") == NGINX.count("}")


def test_systemd_finds_nothing_wrong_where_it_is_installed(tmp_path):
    if shutil.which("systemd-analyze") is None:
        return
    for name in UNITS:
        text = (DEPLOY / name).read_text(encoding="utf-8")
        # It is installed on servers only.
        (tmp_path / name).write_text(text.replace("/opt/smsapi/bin/smsapi", "/bin/true"), encoding="utf-8")
    ended = subprocess.run(
        ["systemd-analyze", "verify", *sorted(tmp_path.iterdir())], capture_output=True, text=True, check=False
    )
    complaints = [line for line in ended.stderr.splitlines() if "smsapi" in line]
    assert (ended.returncode, complaints) == (0, []), ended.stderr


def test_nginx_finds_nothing_wrong_where_it_is_installed(tmp_path):
    if shutil.which("nginx") is None or shutil.which("openssl") is None:
        return
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=sms.example.com"]
    made += ["-keyout", str(tmp_path / "privkey.pem"), "-out", str(tmp_path / "fullchain.pem")]
    subprocess.run(made, capture_output=True, check=True)
    site = NGINX.replace("/etc/letsencrypt/live/sms.example.com", str(tmp_path))
    (tmp_path / "nginx.conf").write_text(f"pid {tmp_path}/pid; events {{}} http {{ {site} }}", encoding="utf-8")
    ended = subprocess.run(
        ["nginx", "-t", "-e", "stderr", "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
