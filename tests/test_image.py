"""Dockerfile, docker-compose.yml and .dockerignore, held against each other and against the service."""

import re
import shutil
import subprocess
import tomllib
from dataclasses import fields
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from smsapi.settings import Settings, read_settings

ROOT = Path(__file__).parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
COMPOSE_TEXT = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load(COMPOSE_TEXT)
OURS = ("api", "worker", "migrate", "simulator")


def found(pattern, text):
    match = re.search(pattern, text, re.MULTILINE)
    assert match, f"nothing like {pattern}"
    return match.group(1)


def read_env(name, **more):
    """Return the variables of a file in deploy/, as Docker, systemd and a shell read it."""
    lines = (ROOT / "deploy" / name).read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#")) | more


def test_the_containers_get_every_setting_of_the_service_and_nothing_else():
    known = {setting.metadata["name"] for setting in fields(Settings)}
    names = {name for ours in OURS for name in COMPOSE["services"][ours]["environment"]}
    given = {name if name in known else name.removesuffix("_FILE") for name in names}
    assert given <= known
    # Compose drops silently what is in `.env` and not named: these two are the command's and the grace period's.
    assert known - given == {"SMSAPI_BIND", "SMSAPI_GRACEFUL_SECONDS"}


@pytest.mark.parametrize("service", ["api", "worker"])
def test_the_engine_waits_longer_for_a_service_to_stop_than_the_service_for_its_calls(service):
    patience = COMPOSE["services"][service]["stop_grace_period"]
    assert int(found(r"^(\d+)s$", patience)) > read_settings({}).graceful_seconds


def test_the_port_is_one_and_the_same_everywhere():
    port = found(r"^EXPOSE (\d+)$", DOCKERFILE)
    assert found(r'^CMD \["serve", "--bind", "0\.0\.0\.0:(\d+)"\]$', DOCKERFILE) == port
    assert found(r"http://127\.0\.0\.1:(\d+)/healthz", DOCKERFILE) == port
    assert COMPOSE["services"]["api"]["ports"] == [f"127.0.0.1:${{SMSAPI_PORT:-8000}}:{port}"]
    assert read_env("simulator.env")["SMSAPI_PUBLIC_URL"] == f"http://api:{port}"


def test_the_file_for_the_simulator_sets_all_that_is_needed_to_serve_and_starts_it():
    given = read_env("simulator.env", SMSAPI_JWT_SECRET="0" * 64)
    assert given.pop("COMPOSE_PROFILES").split(",") == COMPOSE["services"]["simulator"]["profiles"]
    assert given.keys() <= COMPOSE["services"]["api"]["environment"].keys()
    settings = read_settings(given, to_serve=True)
    # The names by which containers of the network reach each other.
    hosts = [urlsplit(url).hostname for url in (settings.plivo_url, settings.public_url)]
    assert hosts == ["simulator", "api"]
    assert set(hosts) <= COMPOSE["services"].keys()
    required = re.findall(r"\$\{(\w+):\?", COMPOSE_TEXT)
    assert set(required) <= given.keys()


def test_docker_compose_reads_the_file_for_the_simulator_where_it_is_installed(tmp_path):
    if shutil.which("docker-compose") is None:
        return
    shutil.copy(ROOT / "docker-compose.yml", tmp_path)
    lines = [f"{name}={value}" for name, value in read_env("simulator.env", SMSAPI_JWT_SECRET="0" * 64).items()]
    (tmp_path / ".env").write_text("\n".join(lines) + "\n", encoding="utf-8")
    ended = subprocess.run(
        ["docker-compose", "config", "--services"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert set(ended.stdout.split()) == COMPOSE["services"].keys(), ended.stderr


def test_what_compose_passes_on_and_nobody_gave_counts_as_not_set():
    environment = COMPOSE["services"]["api"]["environment"]
    optional = {name for name, value in environment.items() if value == f"${{{name}:-}}"}
    assert {"SMSAPI_PUBLIC_URL", "SMSAPI_METRICS_TOKEN", "SMSAPI_LIMIT_LOGIN", "SENTRY_ENVIRONMENT"} <= optional
    assert read_settings(dict.fromkeys(optional, "")) == read_settings({})


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_no_container_can_write_to_its_root_or_gain_a_right(name):
    service = COMPOSE["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_the_image_runs_as_nobody_in_particular_and_never_as_root():
    assert int(found(r"^USER (\d+):\d+$", DOCKERFILE)) >= 10000
    assert not [ours for ours in OURS if "user" in COMPOSE["services"][ours]]


def test_the_image_ships_a_python_that_the_package_promises_and_that_the_tests_are_run_on():
    shipped = found(r"^ARG BASE=python:(\d+\.\d+)-slim-bookworm$", DOCKERFILE)
    bases = {COMPOSE["services"][ours]["build"]["args"]["BASE"] for ours in OURS}
    assert bases == {f"${{SMSAPI_BASE:-python:{shipped}-slim-bookworm}}"}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert f"Programming Language :: Python :: {shipped}" in project["classifiers"]
    told = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert f"the image ships {shipped}." in told
    assert f"make test PYTHON=python{shipped}\n" in told


def test_the_context_is_what_the_image_copies_and_nothing_else():
    copied = {
        name for line in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE) for name in line.split()
    }
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == copied
    assert not [name for name in copied if not (ROOT / name).exists()]
