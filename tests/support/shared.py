"""What the apps of a run share, since to make it anew is most of what making an app takes: rules, and SQL."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import Dialect
from sqlalchemy.engine import Engine
from werkzeug.routing import Rule

from smsapi.db import Database

_COMPILED_PARTS = ("_parts", "_trace", "_converters", "arguments")

_RULES: dict[str, dict[str, Any]] = {}
_BUILDERS: dict[tuple[str, bool], Callable[..., tuple[str, str]]] = {}
_STATEMENTS: dict[str, tuple[Dialect, Any]] = {}


class CompiledOnceRule(Rule):
    """Shares what a rule's text is compiled to among all apps.

    It is made of the text alone; a builder is given the rule that it builds for when it is called.
    """

    def compile(self) -> None:
        """Compile the rule, or take what another app's rule of this text was compiled to."""
        assert not self.defaults
        assert not self.subdomain
        if self.rule not in _RULES:
            super().compile()
            _RULES[self.rule] = {name: getattr(self, name) for name in _COMPILED_PARTS}
            return
        self.__dict__ |= _RULES[self.rule]
        for name, append_unknown in (("_build", False), ("_build_unknown", True)):
            setattr(self, name, self._compile_builder(append_unknown).__get__(self, None))

    def _compile_builder(self, append_unknown: bool = True) -> Callable[..., tuple[str, str]]:
        key = (self.rule, append_unknown)
        if key not in _BUILDERS:
            builder: Any = super()._compile_builder(append_unknown)
            _BUILDERS[key] = builder
        return _BUILDERS[key]


def share_statements(database: Database) -> None:
    """Let this database use the SQL that was compiled for the others of its kind; it has its own connections."""
    name = database.engine.dialect.name
    known = _STATEMENTS.get(name)
    # Until it has been connected, a dialect does not know which server it is for.
    if known is None or getattr(known[0], "server_version_info", None) is None:
        _STATEMENTS[name] = (database.engine.dialect, database.engine._compiled_cache)
        return
    engines: list[Engine] = [database.engine, database._reader]
    for engine in engines:
        engine.dialect, engine._compiled_cache = known
