"""Every error that leaves as a problem answer, and the headers that every answer carries."""

import time
from collections.abc import Mapping
from http import HTTPStatus

import structlog
from flask import Flask, current_app, g, request
from flask.wrappers import Response
from werkzeug.exceptions import HTTPException, InternalServerError, MethodNotAllowed

from smsapi.deps import Deps
from smsapi.errors import BodyTooLarge, MalformedRequest, NotFound, SmsapiError, UnsupportedMediaType
from smsapi.log import get_logger
from smsapi.web.answers import Answer
from smsapi.web.context import deps, request_id, to_response
from smsapi.web.limiter import limit_headers
from smsapi.web.operations import current_operation
from smsapi.web.problems import PROBLEMS, render

log = get_logger()

_SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}


_OAUTH_ERRORS = {"unauthenticated": "invalid_client"}
_WARNED = "smsapi.forwarded_warned"
_PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
_PROVIDER = "/plivo/"


class _MethodNotAllowed(SmsapiError):
    code = "method_not_allowed"


class UriTooLong(SmsapiError):
    """The request line is longer than is read."""

    code = "uri_too_long"


class HeadersTooLarge(SmsapiError):
    """The headers are more, or longer, than are read."""

    code = "headers_too_large"


# The errors that only HTTP itself knows, and those of ours that it shares.
_HTTP_ERRORS: Mapping[int, type[SmsapiError]] = {
    404: NotFound,
    405: _MethodNotAllowed,
    413: BodyTooLarge,
    414: UriTooLong,
    415: UnsupportedMediaType,
    431: HeadersTooLarge,
}


def install(app: Flask) -> None:
    """Make the app answer with problems, log one line a request, and carry the common headers."""
    app.before_request(_start)
    app.after_request(_finish)
    app.register_error_handler(SmsapiError, _on_domain_error)
    app.register_error_handler(HTTPException, _on_http_error)
    app.register_error_handler(Exception, _on_bug)


def _start() -> None:
    g.started = time.perf_counter()
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=request_id())
    _look_for_proxies(deps())


def _look_for_proxies(world: Deps) -> None:
    """Warn, once a process, where a proxy stands in front that nobody trusts: all callers have its address then."""
    if world.settings.trusted_proxies or "X-Forwarded-For" not in request.headers:
        return
    world.metrics.count_untrusted_forwarded()
    if not current_app.extensions.get(_WARNED):
        current_app.extensions[_WARNED] = True
        log.warning("forwarded_for_not_trusted", setting="SMSAPI_TRUSTED_PROXIES")


def _finish(response: Response) -> Response:
    response.headers["X-Request-Id"] = request_id()
    for name, value in {**_SECURITY_HEADERS, **limit_headers()}.items():
        response.headers.setdefault(name, value)
    seconds = time.perf_counter() - g.get("started", time.perf_counter())
    route = request.url_rule.rule if request.url_rule is not None else "(none)"
    deps().metrics.observe_request(request.method, route, response.status_code, seconds)
    # Probes come every few seconds and say nothing; of receipts and inbound texts there is an event of its own.
    is_quiet = route in _PROBES or (route.startswith(_PROVIDER) and response.status_code < HTTPStatus.BAD_REQUEST)
    write = log.debug if is_quiet else log.info
    write(
        "request",
        method=request.method,
        route=route,
        status=response.status_code,
        ms=round(seconds * 1000, 2),
    )
    return response


def problem(error: SmsapiError) -> Answer:
    """Return the problem answer to this request for the error."""
    operation = current_operation()
    if operation is not None and operation.form is not None:
        # A token endpoint: OAuth libraries look for RFC 6749's own member (section 5.2).
        return render(error, request_id(), error=_OAUTH_ERRORS.get(error.code, error.code))
    return render(error, request_id())


def _on_domain_error(error: SmsapiError) -> Response:
    if PROBLEMS[error.code].status >= 500:  # noqa: PLR2004 - the server's class of statuses
        log.warning("request_failed", code=error.code, cause=type(error.__cause__).__name__)
    return to_response(problem(error))


def _on_http_error(error: HTTPException) -> Response:
    status = error.code if error.code is not None else 500
    kept = {"Allow": _allowed()} if isinstance(error, MethodNotAllowed) else {}
    if isinstance(error, InternalServerError):
        return _on_bug(error.original_exception if error.original_exception is not None else error)
    known = _HTTP_ERRORS.get(status, MalformedRequest)
    return to_response(problem(known(PROBLEMS[known.code].advice)), kept)


def _allowed() -> str:
    """Return the methods that the path takes, whatever else kept the request from being routed."""
    adapter = current_app.create_url_adapter(request)
    return ", ".join(sorted(adapter.allowed_methods())) if adapter is not None else ""


def _on_bug(error: BaseException) -> Response:
    log.error("bug", exc_info=(type(error), error, error.__traceback__))
    return to_response(problem(SmsapiError("Something broke on our side; it has been logged.")))
