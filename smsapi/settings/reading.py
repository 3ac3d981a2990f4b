"""Reading the settings, and describing them."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from smsapi.errors import SettingsInvalid
from smsapi.settings.declared import Settings

# A call is only begun while the whole of it fits into what is left of its lease.
_LEASE_PER_CALL = 1.1
_PREFIX: Final = "SMSAPI_"
# What Kubernetes tells every container of a Service by the name of smsapi.
_OF_KUBERNETES: Final = re.compile(r"SMSAPI_(SERVICE_HOST|SERVICE_PORT|PORT)(_.*)?")
# Of the commands that call the service, of the container images, of the tests, and between our own processes.
_NOT_SETTINGS: Final = frozenset(
    {
        *("SMSAPI_URL", "SMSAPI_TOKEN", "SMSAPI_TOKEN_FILE", "SMSAPI_OWN_METRICS_DIR", "SMSAPI_BASE", "SMSAPI_IMAGE"),
        *("SMSAPI_TEST_DATABASE_URL", "SMSAPI_TEST_REDIS_URL", "SMSAPI_TEST_DURABLE", "SMSAPI_TEST_EXAMPLES"),
        "SMSAPI_TEST_STORES",
    }
)


def read_settings(environ: Mapping[str, str] | None = None, *, to_serve: bool = False, **overrides: Any) -> Settings:
    """Read all settings from the environment, or from the mapping given.

    ``NAME_FILE`` names a file that holds the value (a newline at its end is dropped). ``overrides`` are field values
    that win over the environment. An empty value counts as not set; an empty file does not, for somebody meant
    something by it. With ``to_serve``, what only serving needs may not be missing.

    Raises:
        SettingsInvalid: names every bad setting, one to a line.

    """
    source = os.environ if environ is None else environ
    problems: list[str] = []
    failed: set[str] = set()
    values: dict[str, Any] = dict(overrides)
    for spec in fields(Settings):
        if spec.name in overrides:
            continue
        try:
            values[spec.name] = _read_one(source, spec.metadata)
        except ValueError as problem:
            problems.append(f"{spec.metadata['name']} {problem}")
            failed.add(spec.name)
    problems += _contradictions(values)
    if to_serve:
        problems += _missing(values, failed)
    if problems:
        raise SettingsInvalid("\n".join(problems))
    return Settings(**values)


def find_unknown(environ: Mapping[str, str] | None = None) -> Mapping[str, str | None]:
    """Return the variables that begin like a setting and are none, each with the setting whose name is nearest."""
    source = os.environ if environ is None else environ
    known = {spec.metadata["name"] for spec in fields(Settings)}
    names = {*known, *(f"{name}_FILE" for name in known), *_NOT_SETTINGS}
    unknown = sorted(name for name in source if name.startswith(_PREFIX) and name not in names)
    unknown = [name for name in unknown if not _OF_KUBERNETES.fullmatch(name)]
    # Without what all of them begin with, which would make any two alike.
    words = {name.removeprefix(_PREFIX): name for name in names - _NOT_SETTINGS}
    nearest = {name: get_close_matches(name.removeprefix(_PREFIX), words, n=1) for name in unknown}
    return {name: words[found[0]] if found else None for name, found in nearest.items()}


def _contradictions(values: Mapping[str, Any]) -> list[str]:
    """Compare what could be read; what could not has been named already."""
    problems = []
    pair = {"plivo_auth_id": "PLIVO_AUTH_ID", "plivo_auth_token": "PLIVO_AUTH_TOKEN"}
    absent = [name for field, name in pair.items() if field in values and values[field] is None]
    if len(absent) == 1 and len(pair.keys() & values.keys()) == len(pair):
        problems.append(f"{absent[0]} is missing: the Auth ID and the Auth Token go together")
    lease, longest = values.get("lease_seconds"), values.get("plivo_total_timeout_seconds")
    if lease is not None and longest is not None and lease < longest * _LEASE_PER_CALL:
        problems.append("SMSAPI_LEASE_SECONDS must exceed SMSAPI_PLIVO_TOTAL_TIMEOUT_SECONDS by a tenth")
    return problems


def _missing(values: Mapping[str, Any], failed: set[str]) -> list[str]:
    needed = {"jwt_secret": "SMSAPI_JWT_SECRET"}
    if values.get("plivo_auth_id") is None and values.get("plivo_auth_token") is None:
        needed |= {"plivo_auth_id": "PLIVO_AUTH_ID", "plivo_auth_token": "PLIVO_AUTH_TOKEN"}
    return [f"{name} is missing" for field, name in needed.items() if field not in failed and values[field] is None]


def _read_one(source: Mapping[str, str], spec: Mapping[str, Any]) -> Any:
    name = spec["name"]
    raw = source.get(name, "")
    if path := source.get(f"{name}_FILE", ""):
        if raw:
            raise ValueError(f"and {name}_FILE are both set; set one")
        try:
            raw = Path(path).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, ValueError) as error:
            raise ValueError(f"cannot be read from {name}_FILE: {type(error).__name__}") from None
        if not raw:
            # As good as none, an empty token file would leave open what it was to close.
            raise ValueError(f"is empty in {name}_FILE")
    return spec["parse"](raw) if raw else spec["default"]


def describe_settings() -> str:
    """Return the settings page, in Markdown, made from the declarations."""
    rows = [_ABOUT, "", "| setting | value | default | what it is |", "|---|---|---|---|"]
    for spec in fields(Settings):
        row = spec.metadata
        rows.append(f"| `{row['name']}` | {_rule_of(row['parse'])} | {_shown(row['default'])} | {row['about']} |")
    return "\n".join(rows)


_ABOUT = """\
# Settings

All settings are environment variables, read once at the start. Every one may also be given as the name of a file that
holds the value, in a variable of the same name with `_FILE` at its end (a newline at the end of the file is dropped).
An empty variable counts as not set. A setting that is bad, or missing where it is needed, stops the start with one
line that names it, all of them at once. `smsapi dev` reads none of them.

This page is what `smsapi settings` prints. `smsapi send` reads `SMSAPI_URL` and `SMSAPI_TOKEN`: [cli.md](cli.md)."""


def _rule_of(parse: Callable[[str], Any]) -> str:
    # A parser says its rule when it refuses; no setting takes this.
    try:
        parse("\0")
    except ValueError as refusal:
        return str(refusal).removeprefix("must be ").removeprefix("must ").replace("|", "\\|")
    return ""


def _shown(default: Any) -> str:
    if default is None or default == ():
        return "none"
    if isinstance(default, tuple):
        # Ranges of ports are the only lists with a default.
        return f"`{','.join(f'{low}' if low == high else f'{low}-{high}' for low, high in default)}`"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"
