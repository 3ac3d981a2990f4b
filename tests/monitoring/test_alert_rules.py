"""The alert rules: every metric that they name is one of ours, and every alert says what to do."""

import re

import pytest

from tests.support.pages import DOCS
from tests.support.rules import RULES, needs_promtool, promtool, rules

WANTED = {
    *("SmsapiNobodySends", "SmsapiOldestMessageTooOld", "SmsapiUnknownTooOld", "SmsapiAccountRefused"),
    *("SmsapiCircuitOpen", "SmsapiLogDropped", "SmsapiReceiptsMissing", "SmsapiStoreDown"),
}


@pytest.fixture
def database_url(sqlite_url):
    """What is shown is the same on both stores."""
    return sqlite_url


def shown(app):
    """Return the names of all metrics, those of which nothing has been counted yet included."""
    text = app.test_client().get("/metrics").get_data(as_text=True)
    # Where one process counts for itself, the library adds when each counter was made.
    return set(re.findall(r"^# TYPE (\S+)(?<!_created) ", text, re.MULTILINE))


def named(rule):
    return set(re.findall(r"\bsmsapi_\w+", rule["expr"]))


def test_there_is_a_rule_for_all_that_has_to_wake_somebody():
    assert {rule["alert"] for rule in rules()} == WANTED


def test_every_metric_of_a_rule_is_one_that_the_service_shows(app):
    known = shown(app)
    assert {name for rule in rules() for name in named(rule)} <= known
    assert all(named(rule) for rule in rules())


def test_every_value_of_a_label_in_a_rule_is_one_that_the_service_gives(app):
    text = app.test_client().get("/metrics").get_data(as_text=True)
    chosen = {
        sample
        for rule in rules()
        for sample in re.findall(r'smsapi_(?:stopped|queue_oldest_seconds)\{\w+="\w+"\}', rule["expr"])
    }
    assert len(chosen) == 4
    assert all(f"\n{sample} " in text for sample in chosen)


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_every_alert_says_how_bad_it_is_and_what_to_do(rule):
    assert rule["labels"]["severity"] in {"critical", "warning"}
    told = rule["annotations"]
    assert all(len(told[name]) > 15 and told[name].endswith(".") for name in ("summary", "description"))
    page, _, anchor = told["runbook"].partition("#")
    headings = re.findall(r"^#+ (.+)$", (DOCS.parent / page).read_text(encoding="utf-8"), re.MULTILINE)
    assert anchor in {re.sub(r"[^a-z0-9-]", "", heading.lower().replace(" ", "-")) for heading in headings}


def test_every_metric_that_the_service_shows_is_on_the_page_and_no_other(app):
    page = (DOCS / "monitoring.md").read_text(encoding="utf-8")
    told = set(re.findall(r"^\| `(smsapi_\w+)", page, re.MULTILINE))
    assert told == shown(app)


@needs_promtool
def test_prometheus_takes_the_rules():
    checked = promtool("check", "rules", RULES.name, cwd=RULES.parent)
    assert checked.returncode == 0, checked


@needs_promtool
def test_each_rule_is_raised_when_it_should_be_and_not_before():
    tried = promtool("test", "rules", "smsapi.rules.test.yml", cwd=RULES.parent)
    assert tried.returncode == 0, tried
    tests = (RULES.parent / "smsapi.rules.test.yml").read_text(encoding="utf-8")
    assert {name for name in WANTED if f'"{name}"' in tests} == WANTED
