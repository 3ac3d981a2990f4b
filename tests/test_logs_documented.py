"""Every event that the service logs is in docs/logs.md, with its fields; the page names no other."""

import ast
import re
from pathlib import Path

import smsapi
from tests.support.pages import DOCS

LEVELS = {name: name for name in ("debug", "info", "warning", "error", "critical")} | {"exception": "error"}


def events_logged():
    """Return the fields of each event and its level by its name, as far as the calls spell them out."""
    found = {}
    for path in Path(smsapi.__file__).parent.rglob("*.py"):
        for call in (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)):
            arguments = list(call.args)
            function = call.func
            if arguments and isinstance(arguments[0], ast.Attribute) and isinstance(function, ast.Name):
                # partial(log.info, "event", …)
                function = arguments.pop(0)
            is_level = isinstance(function, ast.Attribute) and function.attr in LEVELS
            is_chosen = isinstance(function, ast.Name) and function.id == "write"
            if not (is_level or is_chosen) or not arguments or not isinstance(arguments[0], ast.Constant):
                continue
            name = arguments[0].value
            if isinstance(name, str) and re.fullmatch(r"[a-z_]+", name):
                named, levels = found.setdefault(name, (set(), set()))
                named.update(each.arg for each in call.keywords if each.arg)
                levels.update([] if is_chosen else [LEVELS[function.attr]])
    return found


def events_on_the_page():
    page = (DOCS / "logs.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z_]+)` \| (\w+) \| (.*?) \| (.*?) \|$", page, re.MULTILINE)
    return {name: (level, set(re.findall(r"`([a-z_]+)`", f"{named} {about}"))) for name, level, named, about in rows}


def test_every_event_and_its_fields_are_on_the_page():
    logged, shown = events_logged(), events_on_the_page()
    assert len(logged) > 20
    assert shown.keys() == logged.keys()
    for name, (fields, levels) in logged.items():
        level, named = shown[name]
        assert fields <= named, (name, fields - named)
        assert levels <= {level}, (name, levels)
