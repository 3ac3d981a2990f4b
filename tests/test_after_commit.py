"""Nothing is logged or counted inside a transaction: it is said once that is committed, or not at all."""

import ast
from functools import partial
from pathlib import Path

import pytest

from smsapi.db import Database, after_commit, call_it_news

PACKAGE = Path(__file__).parents[1] / "smsapi"
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}
OPENERS = {"transaction", "statement"}


def is_saying(call):
    """Say whether the call is ``log.warning(…)``, ``….metrics.count_…(…)`` and the like."""
    if not isinstance(call.func, ast.Attribute):
        return False
    on = call.func.value
    if isinstance(on, ast.Name) and on.id == "log":
        return call.func.attr in LEVELS
    if isinstance(on, ast.Call) and getattr(on.func, "id", "") == "get_logger":
        return True
    return getattr(on, "attr", getattr(on, "id", "")) == "metrics" and call.func.attr.startswith(("count_", "observe_"))


def calls_in(body):
    """Yield the calls that are made where this stands, not those of functions that are only defined there."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.Lambda | ast.ClassDef):
            continue
        if isinstance(node, ast.Call):
            yield node
        yield from calls_in(ast.iter_child_nodes(node))


def opens(node):
    return isinstance(node, ast.With) and any(
        isinstance(item.context_expr, ast.Call) and getattr(item.context_expr.func, "attr", "") in OPENERS
        for item in node.items
    )


def takes_connection(function):
    given = (*function.args.args, *function.args.kwonlyargs)
    return any(getattr(each.annotation, "id", "") == "Connection" for each in given)


class Module:
    def __init__(self, path):
        self.name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        self.tree = ast.parse(path.read_text(encoding="utf-8"))
        self.functions = {each.name: each for each in ast.walk(self.tree) if isinstance(each, ast.FunctionDef)}
        self.imported = {
            alias.asname or alias.name: (node.module, alias.name)
            for node in ast.walk(self.tree)
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }

    def called(self, call):
        """Return which function of ours a call calls, where that can be told: its module and name."""
        if isinstance(call.func, ast.Name):
            name = call.func.id
            return self.imported.get(name, (self.name, name))
        on = getattr(call.func, "value", None)
        if not isinstance(call.func, ast.Attribute):
            return None
        if isinstance(on, ast.Name) and on.id == "self":
            return (self.name, call.func.attr)
        if isinstance(on, ast.Name) and on.id in self.imported:
            return (".".join(self.imported[on.id]), call.func.attr)
        return None


def speakers(modules):
    """Return the functions that log or count, by themselves or by what they call."""
    found = set()
    while True:
        more = {
            (module.name, name)
            for module in modules
            for name, function in module.functions.items()
            if any(is_saying(call) or module.called(call) in found for call in calls_in(function.body))
        }
        if more == found:
            return found
        found = more


def said_within(modules):
    speaking = speakers(modules)
    for module in modules:
        within = [(node.body, node.lineno) for node in ast.walk(module.tree) if opens(node)]
        within += [(each.body, each.lineno) for each in module.functions.values() if takes_connection(each)]
        for body, line in within:
            for call in calls_in(body):
                if is_saying(call) or module.called(call) in speaking:
                    yield f"{module.name}:{call.lineno} (within {line}): {ast.unparse(call)[:80]}"


def test_no_line_is_logged_and_nothing_counted_within_a_transaction_or_with_its_connection():
    modules = [Module(path) for path in sorted(PACKAGE.rglob("*.py")) if "migrations" not in path.parts]
    assert any(speakers(modules))
    assert list(said_within(modules)) == []


def test_the_walk_finds_what_it_looks_for(tmp_path):
    module = Module.__new__(Module)
    module.name, module.imported = "it", {}
    module.tree = ast.parse(
        "def say():\n    log.info('x')\n"
        "def through():\n    say()\n"
        "def held(connection: Connection):\n    world.metrics.count_message('sent')\n"
        "def opened():\n    with world.database.transaction() as connection:\n        through()\n"
        "def well(connection: Connection):\n    after_commit(connection, partial(log.info, 'x'))\n"
    )
    module.functions = {each.name: each for each in module.tree.body}
    assert [each.split(" ")[0] for each in said_within([module])] == ["it:9", "it:6"]


@pytest.fixture
def database(database_url):
    database = Database(database_url)
    yield database
    database.close()


def fail():
    raise OSError("the disk is full")


def test_what_is_asked_for_is_done_once_the_transaction_is_committed_whatever_fails(database):
    done = []
    for way in (database.transaction, database.statement):
        with way() as connection:
            after_commit(connection, partial(done.append, 1))
            after_commit(connection, fail)
            after_commit(connection, partial(done.append, 2))
            assert done == []
        assert done == [1, 2]
        done.clear()


def test_nothing_is_done_of_a_transaction_that_is_rolled_back(database):
    done = []

    def break_off():
        with database.transaction() as connection:
            after_commit(connection, partial(done.append, 1))
            call_it_news(connection)
            fail()

    database.tell_news_to(partial(done.append, 2))
    with pytest.raises(OSError, match="full"):
        break_off()
    with database.transaction() as connection:
        connection.exec_driver_sql("SELECT 1")
    assert done == []


def test_a_listener_that_fails_keeps_no_other_from_the_news(database):
    told = []
    database.tell_news_to(fail)
    database.tell_news_to(partial(told.append, "news"))
    with database.transaction() as connection:
        call_it_news(connection)
    assert told == ["news"]
