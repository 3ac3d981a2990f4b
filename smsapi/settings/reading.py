"""Reading the settings, and describing them."""

import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from smsapi.errors import SettingsInvalid
from smsapi.settings.declared import Settings


def read_settings(environ: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
    """Read all settings from the environment, or from the mapping given.

    ``NAME_FILE`` names a file that holds the value (its trailing newline is dropped). ``overrides`` are field
    values that win over the environment. An empty value counts as not set.

    Raises:
        SettingsInvalid: names every bad setting, one to a line.

    """
    source = os.environ if environ is None else environ
    problems: list[str] = []
    values: dict[str, Any] = dict(overrides)
    for spec in fields(Settings):
        if spec.name in overrides:
            continue
        try:
            values[spec.name] = _read_one(source, spec.metadata)
        except ValueError as problem:
            problems.append(f"{spec.metadata['name']} {problem}")
    if not problems:
        problems = _contradictions(values)
    if problems:
        raise SettingsInvalid("\n".join(problems))
    return Settings(**values)


def _contradictions(values: Mapping[str, Any]) -> list[str]:
    problems = []
    if (values["plivo_auth_id"] is None) != (values["plivo_auth_token"] is None):
        missing = "PLIVO_AUTH_TOKEN" if values["plivo_auth_token"] is None else "PLIVO_AUTH_ID"
        problems.append(f"{missing} is missing: the Auth ID and the Auth Token go together")
    if values["lease_seconds"] <= values["plivo_total_timeout_seconds"]:
        problems.append("SMSAPI_LEASE_SECONDS must exceed SMSAPI_PLIVO_TOTAL_TIMEOUT_SECONDS")
    return problems


def _read_one(source: Mapping[str, str], spec: Mapping[str, Any]) -> Any:
    name = spec["name"]
    raw = source.get(name, "")
    if path := source.get(f"{name}_FILE", ""):
        if raw:
            raise ValueError(f"and {name}_FILE are both set; set one")
        try:
            raw = Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"cannot be read from {name}_FILE: {type(error).__name__}") from None
    return spec["parse"](raw) if raw else spec["default"]


def describe_settings() -> str:
    """Return the table of the settings page, in Markdown, made from the declarations."""
    rows = ["| setting | default | what it is |", "|---|---|---|"]
    for spec in fields(Settings):
        row = spec.metadata
        rows.append(f"| `{row['name']}` | {_shown(row['default'])} | {row['about']} |")
    return "\n".join(rows)


def _shown(default: Any) -> str:
    if default is None or default == ():
        return "none"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"
