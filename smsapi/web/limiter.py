"""flask-limiter as the front of request limits, with all limits of a request decided in one step.

flask-limiter keeps its declarations (``flask_limiter.Limit``, ``@limiter.limit``, ``@limiter.exempt``, key functions,
costs, exemptions) and its hook before each request. What it would ask its own storage, one round trip a limit and a
charge for what another limit then refuses, goes to our ``LimitStore`` as one decision, all or nothing.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields
from functools import lru_cache
from typing import NamedTuple, Self

import flask
import flask_limiter

# What flask-limiter's manager hands out and what its hooks clear; the package's root exports neither name.
from flask_limiter._extension import LimiterContext
from flask_limiter._limits import RuntimeLimit
from flask_limiter.util import get_qualified_name

from smsapi.limits.charges import key_of, policy_name, refuse_spent, window_of
from smsapi.limits.gcra import Charge, Standing, Verdict
from smsapi.limits.store import LimitStore
from smsapi.settings.windows import read_windows

_STANDING = "limit_standing"
_REMEMBERED_STRINGS = 1024


class OnceLimit(flask_limiter.Limit):
    """A limit that all requests with one token (an Idempotency-Key) spend once, while window and token last.

    Needs a ``scope`` that is a literal string.
    """


class Once(NamedTuple):
    """What marks the repetitions of one request, and for how many seconds they are repetitions, not new requests."""

    token: str
    seconds: int


class OneStepLimiter(flask_limiter.Limiter):
    """A ``flask_limiter.Limiter`` that decides every limit of a request by one ``LimitStore.spend``.

    ``limits`` apply to every route that is not exempt. A limit's scope names its policy: ``send`` for its first window
    and ``send-day``, ``send-5-minute`` for the others. As ever in flask-limiter, a limit counts each endpoint apart
    unless it is ``shared``, and it may give another string on each request: a changed quota holds from the next
    request on and keeps what is spent. A limit without a key (an empty string) does not count, nor does an empty limit
    string. ``once`` gives the request's token for the limits declared as ``OnceLimit``, or ``None``. ``later`` says of
    a scope and a window in seconds that the view spends it itself, once it knows how much: here it is only asked.

    The hook raises ``RateLimited``, which says which policies refused, and lets the store's ``LimitStoreDown``
    through. ``deduct_when``, ``on_breach`` and meta limits would need a second decision: they are refused with
    ``ValueError``, never ignored.
    """

    def __init__(
        self,
        store: LimitStore,
        *,
        limits: Sequence[flask_limiter.Limit],
        once: Callable[[], Once | None],
        later: Callable[[str, int], bool] = lambda _scope, _seconds: False,
    ) -> None:
        for limit in limits:
            _refuse_unsupported(limit)
            if limit.key_function is None:
                raise ValueError("a limit needs a key function of its own")
        self._store = store
        self._once = once
        self._later = later
        self._plain: dict[str, bool] = {}
        self._empty = LimiterContext()
        self._once_scopes = frozenset(_literal_scope(limit) for limit in limits if isinstance(limit, OnceLimit))
        super().__init__(
            key_func=_no_key,
            default_limits=[_RememberedLimit.of(limit) for limit in limits],
            headers_enabled=False,
            swallow_errors=False,
            # Nothing is ever kept there; any other storage would be connected to.
            storage_uri="memory://",
        )

    def _check_request_limit(self, callable_name: str | None = None, in_middleware: bool = True) -> None:  # noqa: FBT001, FBT002  (flask-limiter's signature)
        endpoint = self.identify_request()
        if not endpoint or not self.enabled or endpoint.rpartition(".")[2] == "static":
            return
        if self._request_filters and any(is_exempt() for is_exempt in self._request_filters):
            return
        standing = _standing()
        once = self._once() if self._once_scopes else None
        limits = self._limits_of(endpoint, callable_name, in_middleware)
        charges = self._charges(endpoint, limits, standing, 0 if once is None else once.seconds)
        if not charges:
            return
        verdict = self._store.spend(charges, once=None if once is None else once.token)
        standing.keep(charges, verdict)
        refuse_spent(verdict)

    @property
    def context(self) -> LimiterContext:
        """Return flask-limiter's record of the request: always the same empty one, for ours is kept elsewhere."""
        return self._empty

    def _limits_of(self, endpoint: str, callable_name: str | None, in_middleware: bool) -> Iterable[RuntimeLimit]:  # noqa: FBT001
        if in_middleware and not self.limit_manager.has_hints(endpoint) and self._takes_the_defaults_only(endpoint):
            return self.limit_manager.default_limits
        view = flask.current_app.view_functions.get(endpoint)
        name = callable_name or (get_qualified_name(view) if view else "")
        found = self.limit_manager.resolve_limits(
            flask.current_app,
            endpoint,
            flask.request.blueprint,
            name,
            in_middleware,
            name in self._marked_for_limiting or self.limit_manager.has_hints(endpoint),
        )
        return (limit for group in found for limit in group)

    def _takes_the_defaults_only(self, endpoint: str) -> bool:
        # flask-limiter works this out anew on each request, which costs more than the decision itself. What it comes
        # to is settled by declarations at start-up; only hints come later, and the caller has asked for those.
        known = self._plain.get(endpoint)
        if known is None:
            app, blueprint = flask.current_app, flask.request.blueprint
            view = app.view_functions.get(endpoint)
            known = self._plain[endpoint] = not (
                (view and get_qualified_name(view) in self._marked_for_limiting)
                or self.limit_manager._blueprint_limits  # noqa: SLF001  (there is no public way to ask)
                or self.limit_manager.exemption_scope(app, endpoint, blueprint)
            )
        return known

    def _charges(
        self, endpoint: str, limits: Iterable[RuntimeLimit], standing: "_Standing", once_seconds: int
    ) -> list[Charge]:
        method = flask.request.method
        asked: dict[str, Charge] = {}
        named: set[str] = set()
        for limit in limits:
            _refuse_unsupported(limit)
            identity = "" if limit.is_exempt or limit.method_exempt else limit.key_func()
            if not identity:
                continue
            seconds = limit.limit.get_expiry()
            # The identity comes last: it is the only part that a caller may have a say in.
            key = key_of(seconds, limit.scope_for(endpoint, method), identity)
            quota = limit.limit.amount
            earlier = asked.get(key)
            # A limit that a decorator within the view meets again was charged before the view; and of two quotas for
            # one window the smaller decides, for whatever passes it passes the other.
            if key in standing.charged or (earlier and earlier.window.quota <= quota):
                continue
            scope = (limit.scope(endpoint) if callable(limit.scope) else limit.scope) or endpoint
            policy = earlier.policy if earlier else policy_name(scope, limit.limit, named)
            named.add(policy)
            once = min(seconds, once_seconds) if scope in self._once_scopes else 0
            cost = 0 if self._later(scope, seconds) else limit.deduction_amount
            asked[key] = Charge(key, window_of(quota, seconds), policy, cost, once)
        return list(asked.values())


def limit_headers() -> dict[str, str]:
    """Return the headers that tell where the present request's limits stand; none where no limit applied.

    ``RateLimit-Policy`` and ``RateLimit`` are lists after draft-ietf-httpapi-ratelimit-headers-11, whose ``t`` is the
    time that what remains has to last; ``Retry-After`` (RFC 9110 section 10.2.3, whole seconds, at least 1) is there
    only where the request was refused.
    """
    standing: _Standing | None = flask.g.get(_STANDING)
    if standing is None or not standing.items:
        return {}
    headers = {
        "RateLimit-Policy": ", ".join([_policy_item(item.policy, item.quota, item.seconds) for item in standing.items]),
        "RateLimit": ", ".join(
            [f"{_quoted(item.policy)};r={item.remaining};t={item.effective_seconds}" for item in standing.items]
        ),
    }
    if standing.retry_after_seconds:
        headers["Retry-After"] = str(standing.retry_after_seconds)
    return headers


class _Standing:
    """What is known of the request's limits so far; decorated views are decided after the defaults."""

    def __init__(self) -> None:
        self.items: list[Standing] = []
        self.charged: set[str] = set()
        self.retry_after_seconds = 0

    def keep(self, charges: Sequence[Charge], verdict: Verdict) -> None:
        self.items.extend(verdict.items)
        self.charged.update(charge.key for charge in charges)
        self.retry_after_seconds = verdict.retry_after_seconds


def keep_standing(charges: Sequence[Charge], verdict: Verdict) -> None:
    """Tell ``limit_headers`` of limits that were decided elsewhere (failed log-ins), in place of what it knew."""
    standing = _standing()
    standing.items.clear()
    standing.keep(charges, verdict)


def renew_standing(verdict: Verdict) -> None:
    """Tell ``limit_headers`` how these policies stand now: a view has spent them since, or was refused."""
    standing = _standing()
    renewed = {item.policy: item for item in verdict.items}
    standing.items = [renewed.pop(item.policy, item) for item in standing.items] + list(renewed.values())
    standing.retry_after_seconds = verdict.retry_after_seconds


def _standing() -> _Standing:
    standing: _Standing | None = flask.g.get(_STANDING)
    if standing is None:
        standing = _Standing()
        setattr(flask.g, _STANDING, standing)
    return standing


class _RememberedLimit(flask_limiter.Limit):
    """A declared limit that reads each limit string once: parsing one costs more than deciding it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._windows = lru_cache(_REMEMBERED_STRINGS)(self._read)

    @classmethod
    def of(cls, declared: flask_limiter.Limit) -> Self:
        # By the fields of Limit itself: its subclasses fix some of them, which their own constructors do not take.
        return cls(**{field.name: getattr(declared, field.name) for field in fields(flask_limiter.Limit) if field.init})

    def __iter__(self) -> Iterator[RuntimeLimit]:
        return iter(self._windows(self.limit_provider() if callable(self.limit_provider) else self.limit_provider))

    def _read(self, text: str) -> tuple[RuntimeLimit, ...]:
        items = read_windows(text) if text else ()
        return tuple(
            RuntimeLimit(
                item,
                self.limit_by,
                scope=self.scope,
                per_method=self.per_method,
                methods=self.methods,
                error_message=self.error_message,
                exempt_when=self.exempt_when,
                # Not `or`: a cost of 0 asks and spends nothing.
                cost=1 if self.cost is None else self.cost,
                shared=self.shared,
            )
            for item in items
        )


def _refuse_unsupported(limit: flask_limiter.Limit | RuntimeLimit) -> None:
    if limit.deduct_when or limit.on_breach or limit.meta_limits:
        raise ValueError("a limit with deduct_when, on_breach or meta_limits cannot be decided in one step")


def _literal_scope(limit: flask_limiter.Limit) -> str:
    if not isinstance(limit.scope, str) or not limit.scope:
        raise ValueError("a OnceLimit needs a literal scope")
    return limit.scope


def _no_key() -> str:
    # flask-limiter asks this for a limit without a key function; an empty answer would switch that limit off.
    raise ValueError("a limit needs a key function of its own")


@lru_cache(1024)
def _policy_item(policy: str, quota: int, seconds: int) -> str:
    return f"{_quoted(policy)};q={quota};w={seconds}"


@lru_cache(1024)
def _quoted(text: str) -> str:
    # A String of RFC 9651 section 3.3.3 is visible ASCII and spaces; endpoints and scopes are ours and are that.
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
