"""Readiness checks: whether what this process needs is there, by name, and whether the queue moves."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from smsapi.remembered import Question

State = Literal["ok", "degraded", "down"]

_PATIENCE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found. ``degraded``: requests can be served, and something else is wrong, as ``reason`` says."""

    state: State
    reason: str | None = None


OK: Final = Finding("ok")
DOWN: Final = Finding("down")
_WORST: Final = ("ok", "degraded", "down")


@dataclass(frozen=True, slots=True)
class _Check:
    ask: Callable[[], bool | Finding]
    otherwise: Finding


class Health:
    """The checks of one process. ``patience_seconds`` is how long all of them together may take."""

    def __init__(self, patience_seconds: float = _PATIENCE_SECONDS) -> None:
        self._patience_seconds = patience_seconds
        self._checks: dict[tuple[str, str], _Check] = {}
        self._running: dict[tuple[str, str], Question[bool | Finding]] = {}
        self._lock = threading.Lock()

    def register(
        self, name: str, check: Callable[[], bool | Finding], *, of: str = "", otherwise: Finding = DOWN
    ) -> None:
        """Add a check, or replace the one of this name and ``of``; of several with one name the worst finding counts.

        False means down; an exception, or no answer in time, means ``otherwise``.
        """
        self._checks[name, of] = _Check(check, otherwise)

    def report(self) -> Mapping[str, Finding]:
        """Run all checks at once; return what they found."""
        until = time.monotonic() + self._patience_seconds
        running = [(key, check, self._run(key, check)) for key, check in tuple(self._checks.items())]
        found: dict[str, Finding] = {}
        for (name, _), check, question in running:
            finding = _result(question, check, until)
            found[name] = max(found.get(name, OK), finding, key=lambda each: _WORST.index(each.state))
        return found

    def _run(self, key: tuple[str, str], check: _Check) -> Question[bool | Finding]:
        # A server that is there and does not answer would otherwise hold one more thread at each question.
        with self._lock:
            question = self._running.get(key)
            if question is None or question.is_over:
                question = self._running[key] = Question(check.ask)
            return question


def _result(question: Question[bool | Finding], check: _Check, until: float) -> Finding:
    try:
        answer = question.result(until)
    except Exception:  # noqa: BLE001 - whatever it is, the thing cannot be used
        return check.otherwise
    if isinstance(answer, Finding):
        return answer
    return OK if answer else DOWN
