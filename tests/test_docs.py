"""The pages of docs/ say what the code does: those that can be made from it are."""

import re
from pathlib import Path

import pytest

from smsapi.web.problems import PROBLEMS
from tests.support.pages import DOCS, PAGES

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_that_is_made_from_the_code_is_up_to_date(name):
    assert (DOCS / name).read_text(encoding="utf-8") == PAGES[name](), "run: python -m tests.support.pages"


def test_every_command_of_the_contract_so_far_is_on_the_page():
    page = PAGES["cli.md"]()
    for command in (
        *("dev", "serve", "worker", "simulator", "db upgrade", "clients create", "keys create", "send", "doctor"),
        *("queue status", "queue pause", "queue resume", "queue drain"),
        *("messages show", "messages retry", "messages resolve"),
        *("batch send", "batch watch", "batch show", "batch cancel", "batch rejects"),
    ):
        assert f"\n## `smsapi {command}`\n" in page


def test_no_option_is_without_a_word_of_help():
    options = re.findall(r"^  (-\S.*)$", PAGES["cli.md"](), re.MULTILINE)
    assert len(options) > 30
    lines = PAGES["cli.md"]().splitlines()
    for option in options:
        following = lines[lines.index(f"  {option}") + 1]
        assert re.search(r"\S {2,}\S", option) or following.startswith(" " * 10), f"no help: {option}"


def test_every_problem_has_advice_that_says_something():
    for code, problem in PROBLEMS.items():
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", code)
        assert len(problem.advice) > 15, code
        assert problem.advice != problem.title
        assert "|" not in problem.advice


def test_every_promise_of_delivery_names_a_test_that_is_there():
    named = re.findall(r"`(tests/\S+\.py)::(test_\w+)`", (DOCS / "delivery.md").read_text(encoding="utf-8"))
    assert len(named) > 20
    for path, test in named:
        assert f"def {test}(" in (ROOT / path).read_text(encoding="utf-8"), f"{path} has no {test}"


def test_every_link_between_the_documents_leads_somewhere():
    for page in [*ROOT.glob("*.md"), *DOCS.rglob("*.md")]:
        for target in re.findall(r"\]\((?!https?://)([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
