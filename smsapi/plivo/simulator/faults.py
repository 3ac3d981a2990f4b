"""Faults to order: rules that spoil coming send calls, for chaos tests."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from threading import Lock
from typing import Any

# Each kind, and whether Plivo has the message after it unless the rule says otherwise.
_TAKEN = {
    "429": False,
    "500": False,
    "503": False,
    "reset_before": False,
    "reset_after": True,
    "hang": False,
    "html_200": False,
    "wrong_json": True,
    "slow": True,
}
_ALWAYS_AS_NAMED = frozenset({"429", "reset_before", "reset_after", "slow"})


@dataclass(frozen=True, slots=True)
class Rule:
    """One fault: ``kind`` with what chance, at most how often (None is no end), and its own details.

    ``seconds`` is how long ``hang`` and ``slow`` take. ``retry_after`` in seconds goes with 429 (0: none does) and,
    where given, 503.
    ``taken`` says whether the message is taken all the same; by default it is for ``reset_after``, ``wrong_json`` and
    ``slow``.
    """

    kind: str
    probability: float = 1.0
    count: int | None = None
    seconds: float | None = None
    retry_after: float | None = None
    taken: bool | None = None

    @property
    def is_taken(self) -> bool:
        """Say whether Plivo has the message after this fault."""
        return _TAKEN[self.kind] if self.taken is None else self.taken


class Faults:
    """The rules in force; the first that strikes wins. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._rules: list[Rule] = []
        self._chance = random.Random()  # noqa: S311 - chance for tests, nothing to guess

    def replace(self, rules: Sequence[Rule]) -> None:
        """Put these rules in the place of all that were in force."""
        with self._lock:
            self._rules = list(rules)

    def current(self) -> list[Rule]:
        """Return the rules still in force, with what is left of their counts."""
        with self._lock:
            return list(self._rules)

    def strike(self) -> Rule | None:
        """Return the fault of this send call, if any, and count it."""
        with self._lock:
            for place, rule in enumerate(self._rules):
                if rule.count == 0 or self._chance.random() >= rule.probability:
                    continue
                if rule.count is not None:
                    self._rules[place] = replace(rule, count=rule.count - 1)
                return rule
        return None


def parse_rules(content: Any) -> list[Rule]:
    """Return the rules of a JSON list.

    Raises ValueError, with a sentence for a person, on anything else.
    """
    if not isinstance(content, list):
        raise ValueError("Faults are a JSON list of rules.")  # noqa: TRY004 - bad data, whatever its type
    return [_parse_rule(item) for item in content]


def _parse_rule(item: Any) -> Rule:
    names = {rule_field.name for rule_field in fields(Rule)}
    if not isinstance(item, dict) or not item.keys() <= names:
        raise ValueError(f"A rule is an object with some of: {', '.join(sorted(names))}.")
    kind = item.get("kind")
    if kind not in _TAKEN:
        raise ValueError(f"A rule's kind is one of: {', '.join(_TAKEN)}.")
    _check_number(item, "probability", most=1.0)
    _check_number(item, "seconds")
    _check_number(item, "retry_after")
    count = item.get("count")
    if not (count is None or (type(count) is int and count >= 0)):
        raise ValueError("count is a whole number from 0, or null.")
    taken = item.get("taken")
    if not (taken is None or isinstance(taken, bool)) or (taken is not None and kind in _ALWAYS_AS_NAMED):
        raise ValueError(f"taken is true, false or null, and not for: {', '.join(sorted(_ALWAYS_AS_NAMED))}.")
    given = {name: value for name, value in item.items() if value is not None}
    return Rule(**given)


def _check_number(item: dict[str, Any], name: str, most: float = float("inf")) -> None:
    value = item.get(name)
    if value is not None and not (type(value) in {int, float} and 0 <= value <= most):
        raise ValueError(f"{name} is a number from 0{'' if most == float('inf') else f' to {most:g}'}, or null.")
