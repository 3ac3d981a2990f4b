"""Settings: each read once, every bad one named at once, and no secret ever shown."""

import json
import subprocess
import sys
from dataclasses import fields

import pytest

from smsapi.errors import SettingsInvalid
from smsapi.settings import Settings, find_unknown, read_settings
from tests.support.command import called
from tests.support.served import environment, serving

SPECS = {spec.metadata["name"]: spec for spec in fields(Settings)}
SECRETS = sorted(name for name, spec in SPECS.items() if spec.metadata["secret"])
AUTH = {"PLIVO_AUTH_ID": "MATESTTESTTESTTEST00", "PLIVO_AUTH_TOKEN": "token"}
JWT = {"SMSAPI_JWT_SECRET": "s" * 32}


def problems_of(environ, **given):
    with pytest.raises(SettingsInvalid) as caught:
        read_settings(environ, **given)
    return caught.value.detail.splitlines()


def test_the_defaults_are_those_of_the_contract():
    settings = read_settings({})
    assert settings.database_url == "sqlite:///smsapi.db"
    assert settings.redis_url is None
    assert settings.plivo_url is None
    assert settings.public_url is None
    assert settings.plivo_auth_id is None
    assert settings.plivo_sender_id is None


def test_every_setting_has_the_prefix_of_the_house_a_sentence_and_a_default_that_it_would_take_itself():
    for name, spec in SPECS.items():
        about, default = spec.metadata["about"], spec.metadata["default"]
        assert name.startswith(("PLIVO_", "SMSAPI_", "SENTRY_"))
        assert about.endswith(".")
        assert "|" not in about
        if isinstance(default, str | int | float):
            assert spec.metadata["parse"](str(default)) == default


BAD = {
    "PLIVO_AUTH_ID": ["me", "MA123", "matesttesttesttest00"],
    "PLIVO_AUTH_TOKEN": ["with space", "tök", "new\nline"],
    "PLIVO_SENDER_ID": ["+0123", "twelve-chars", "", "ABCDEFGHIJKL", "12"],
    "SMSAPI_DATABASE_URL": ["mysql://h/d", "nonsense", "sqlite://", "sqlite:///:memory:", "sqlite+aiosqlite:///x"],
    "SMSAPI_DATABASE_POOL_SIZE": ["0", "-1", "501", "1.5", "²", "9" * 5000],
    "SMSAPI_REDIS_URL": [
        "localhost:6379",
        "http://h",
        "redis://h:port",
        "redis://h:99999",
        "redis://h/name",
        "unix://",
    ],
    "SMSAPI_PLIVO_URL": ["127.0.0.1:8099", "http://", "http://h/base", "http://h:99999", "http://u:p@h", "http://[::1"],
    "SMSAPI_PUBLIC_URL": ["ftp://h", "http://h?q=1", "http://h#f", "http://h h"],
    "SMSAPI_JWT_SECRET": ["short", "s" * 31],
    "SMSAPI_JWT_PREVIOUS_SECRETS": ["short", f"{'s' * 32},short"],
    "SMSAPI_PLIVO_READ_TIMEOUT_SECONDS": ["0", "-1", "1e3", "inf", "nan", "121"],
    "SMSAPI_STRICT_NUMBERS": ["maybe", "2"],
    "SMSAPI_ALLOWED_COUNTRIES": ["USA", "US,1", "UK", "US,XX"],
    "SMSAPI_PRICES_FILE": ["/nowhere/prices.json", "/", "\0", "x" * 256, "x/" * 4096],
    "SMSAPI_LIMIT_SEND": [
        "many",
        "600",
        "600 per fortnight",
        ";",
        f"{10**12} per day",
        "5 per 10 years",
        "5 per 0 minute",
        "5/0 minute",
    ],
    "SMSAPI_BIND": ["8000", ":8000", "h:99999", "h:port", "::1:8000"],
    "SMSAPI_METRICS_TOKEN": ["short", "with spaces in the token"],
    "SMSAPI_LOG_LEVEL": ["loud"],
    "SENTRY_DSN": ["https://host", "https://host/1", "https://key@host/", "key@host/1"],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in BAD.items() for value in values if value]
)
def test_a_bad_value_is_one_line_that_names_its_setting(name, value):
    (line,) = problems_of({**AUTH, name: value})
    assert line.startswith(f"{name} must ")


def test_all_bad_and_missing_settings_are_named_at_once():
    bad = {name: values[0] for name, values in BAD.items() if name not in {"SMSAPI_JWT_SECRET", "PLIVO_AUTH_ID"}}
    lines = problems_of({**bad, "SMSAPI_LEASE_SECONDS": "5", "SMSAPI_SENTRY": "x"}, to_serve=True)
    named = [line.split()[0] for line in lines]
    assert sorted(named) == sorted([*bad, "SMSAPI_LEASE_SECONDS", "SMSAPI_JWT_SECRET", "PLIVO_AUTH_ID"])


@pytest.mark.parametrize("given", AUTH)
def test_half_of_plivos_credential_is_refused_by_the_name_of_the_other_half(given):
    (line,) = problems_of({given: AUTH[given]})
    (other,) = AUTH.keys() - {given}
    assert line.startswith(f"{other} is missing")


def test_what_serving_needs_may_be_missing_elsewhere_and_not_there():
    assert read_settings({}).jwt_secret is None
    assert [line.split()[0] for line in problems_of({}, to_serve=True)] == [
        "SMSAPI_JWT_SECRET",
        "PLIVO_AUTH_ID",
        "PLIVO_AUTH_TOKEN",
    ]
    assert read_settings({**AUTH, **JWT}, to_serve=True).jwt_secret == "s" * 32


def test_an_empty_variable_counts_as_not_set():
    assert read_settings(dict.fromkeys(SPECS, "")) == read_settings({})


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_a_secret_may_come_from_a_file_and_loses_only_the_newline_at_its_end(tmp_path, ending):
    path = tmp_path / "secret"
    path.write_bytes(f" {'s' * 32} {ending}".encode())
    assert read_settings({"SMSAPI_JWT_SECRET_FILE": str(path)}).jwt_secret == f" {'s' * 32} "


@pytest.mark.parametrize("name", SPECS)
def test_every_setting_has_the_form_of_a_file(tmp_path, name):
    path = tmp_path / "absent"
    assert problems_of({f"{name}_FILE": str(path)})[0] == f"{name} cannot be read from {name}_FILE: FileNotFoundError"


def test_a_value_and_a_file_for_the_same_setting_are_refused(tmp_path):
    path = tmp_path / "secret"
    path.write_text("t" * 32)
    (line,) = problems_of({**JWT, "SMSAPI_JWT_SECRET_FILE": str(path)})
    assert line == "SMSAPI_JWT_SECRET and SMSAPI_JWT_SECRET_FILE are both set; set one"


@pytest.mark.parametrize("content", [b"", b"\n", b"\r\n"])
def test_an_empty_file_does_not_open_what_its_token_was_to_close(tmp_path, content):
    path = tmp_path / "token"
    path.write_bytes(content)
    (line,) = problems_of({"SMSAPI_METRICS_TOKEN_FILE": str(path)})
    assert line == "SMSAPI_METRICS_TOKEN is empty in SMSAPI_METRICS_TOKEN_FILE"


def test_a_file_that_is_no_text_is_named(tmp_path):
    path = tmp_path / "secret"
    path.write_bytes(b"\xff\xfe" * 20)
    (line,) = problems_of({"SMSAPI_JWT_SECRET_FILE": str(path)})
    assert line == "SMSAPI_JWT_SECRET cannot be read from SMSAPI_JWT_SECRET_FILE: UnicodeDecodeError"


def test_no_secret_is_in_the_repr():
    values = {
        **AUTH,
        "PLIVO_AUTH_TOKEN": "HUSH" * 10,
        "SMSAPI_DATABASE_URL": "postgresql://user:HUSH@host/db",
        "SMSAPI_REDIS_URL": "redis://:HUSH@host",
        "SMSAPI_BROKER_URL": "amqp://user:HUSH@host",
        "SMSAPI_PLIVO_SIGNATURE_TOKENS": "HUSH1 HUSH2",
        "SMSAPI_JWT_SECRET": "HUSH" * 10,
        "SMSAPI_JWT_PREVIOUS_SECRETS": "HUSH" * 10,
        "SMSAPI_METRICS_TOKEN": "HUSH" * 10,
        "SENTRY_DSN": "https://HUSH@host/1",
    }
    assert set(SECRETS) <= values.keys()
    settings = read_settings(values)
    assert "HUSH" not in repr(settings)
    assert settings.plivo_auth_id in repr(settings)


HUSHED = [
    "HUSH",
    "HUSH HUSH",
    "HUSH\0",
    "postgresql://user:p@HUSH:HUSH@host/db",
    "postgresql://user:[HUSH@host:port/db",
    "postgresql://user:HUSH@host:HUSH/db",
    "redis://:se[HUSH@host",
    "redis://user:HUSH@host:HUSH",
    "https://HUSH@host:HUSH/x",
]


@pytest.mark.parametrize("value", HUSHED)
@pytest.mark.parametrize("name", SECRETS)
def test_a_bad_secret_is_not_repeated_in_the_complaint(name, value):
    try:
        read_settings({**AUTH, name: value})
    except SettingsInvalid as refusal:
        said = refusal.detail
    else:
        return  # it is not bad for this setting
    assert name in said
    assert "HUSH" not in said


def test_a_bad_start_is_lines_on_stderr_and_exit_code_1():
    environ = {"PATH": "/usr/bin:/bin", "SMSAPI_WORKERS": "none", "SMSAPI_DATABASE_URL": "mysql://u:HUSH@h/d"}
    ended = subprocess.run(
        [sys.executable, "-m", "smsapi", "serve"], env=environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert "HUSH" not in ended.stderr
    assert sorted(line.split()[1] for line in ended.stderr.splitlines()) == sorted(
        ["SMSAPI_WORKERS", "SMSAPI_DATABASE_URL", "SMSAPI_JWT_SECRET", "PLIVO_AUTH_ID", "PLIVO_AUTH_TOKEN"]
    )


def test_a_variable_that_is_no_setting_is_named_with_the_nearest_one():
    given = {
        "SMSAPI_LIMIT_SNED": "1 per minute",
        "SMSAPI_JWT_SECRETS_FILE": "/x",
        "SMSAPI_ZZZZZ": "1",
        "SMSAPI_REDIS_URL": "redis://x",
        "SMSAPI_REDIS_URL_FILE": "",
        "SMSAPI_TOKEN": "x",
        "SMSAPI_SERVICE_HOST": "10.0.0.1",
        "SMSAPI_PORT_8000_TCP_ADDR": "10.0.0.1",
        "OTHER": "x",
    }
    assert find_unknown(given) == {
        "SMSAPI_JWT_SECRETS_FILE": "SMSAPI_JWT_SECRET_FILE",
        "SMSAPI_LIMIT_SNED": "SMSAPI_LIMIT_SEND",
        "SMSAPI_ZZZZZ": None,
    }


def test_serve_warns_of_a_variable_that_is_no_setting(sqlite_url, simulator):
    environ = environment(sqlite_url, simulator.url, SMSAPI_WORKERS=1, SMSAPI_LIMIT_SNED="1 per minute")
    with serving(environ) as served:
        (line,) = served.lines("setting_not_known")
    assert (line["setting"], line["did_you_mean"]) == ("SMSAPI_LIMIT_SNED", "SMSAPI_LIMIT_SEND")
    assert line["level"] == "warning"


def test_doctor_names_a_variable_that_is_no_setting(sqlite_url):
    given = {"SMSAPI_DATABASE_URL": sqlite_url, "SMSAPI_JWT_SECRET": "s" * 32, **AUTH}
    ended = called("doctor", "--json", **given, SMSAPI_LIMIT_SNED="1 per minute")
    (found,) = [each for each in json.loads(ended.stdout)["checks"] if each["check"] == "settings"]
    assert found["state"] == "ok"
    assert "SMSAPI_LIMIT_SNED (SMSAPI_LIMIT_SEND?)" in found["detail"]
