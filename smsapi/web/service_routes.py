"""The routes about the service itself: alive, ready, metrics, the specification, the docs page, the problem pages."""

import hmac
from datetime import datetime
from html import escape
from importlib.resources import files
from typing import Any

from flask import Blueprint, current_app, request
from flask.wrappers import Response
from marshmallow import fields

from smsapi.clock import rfc3339
from smsapi.errors import NotFound, Unauthenticated, Unavailable
from smsapi.logsink import read_log_trouble
from smsapi.pacing.gates import read_stops
from smsapi.web.answers import answer
from smsapi.web.context import deps, to_response
from smsapi.web.fields import StrictSchema
from smsapi.web.openapi import document_of, dump_openapi
from smsapi.web.operations import operation
from smsapi.web.problems import PROBLEMS

blueprint = Blueprint("service", __name__)

_ASSETS = {
    "swagger-ui.css": ("swagger-ui/swagger-ui.css", "text/css; charset=utf-8"),
    "swagger-ui-bundle.js": ("swagger-ui/swagger-ui-bundle.js", "text/javascript; charset=utf-8"),
    "start.js": ("start.js", "text/javascript; charset=utf-8"),
}
_DOCS_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class StatusSchema(StrictSchema):
    """The process answers."""

    status = fields.String(required=True)


class StopSchema(StrictSchema):
    """A gate at which messages wait: ``circuit`` (Plivo fails), ``account`` (Plivo refuses it), ``pause``."""

    gate = fields.String(required=True)
    reason = fields.String(required=True, allow_none=True)
    since = fields.DateTime(required=True, allow_none=True)
    opens_at = fields.DateTime(
        required=True, allow_none=True, metadata={"description": "When it is tried again; null: by a person."}
    )


class LogSchema(StrictSchema):
    """Whether the process that answers can write its log; ``dropped_lines`` counts what it could not write."""

    status = fields.String(required=True, metadata={"enum": ["ok", "failing"]})
    reason = fields.String(
        required=True, allow_none=True, metadata={"description": "Why the last line was dropped; null: it was not."}
    )
    dropped_lines = fields.Integer(required=True)


class ReadySchema(StrictSchema):
    """Whether all that is needed is there; ``down`` names what is not, and then the status is 503.

    ``degraded`` says, by check, what is wrong while requests can be served all the same: messages are due, and no
    process that sends is alive. They are stored, and the message of a caller who waits is sent by the process that
    answers it.

    ``stops`` names the gates that keep messages waiting. Requests are taken all the same, so they are no reason for a
    load balancer to turn away from this process. Neither is a log that cannot be written.
    """

    status = fields.String(required=True, metadata={"enum": ["ready", "degraded", "not_ready"]})
    checks = fields.Dict(
        keys=fields.String(),
        values=fields.String(metadata={"enum": ["ok", "degraded", "down"]}),
        required=True,
    )
    down = fields.List(fields.String(), required=True)
    degraded = fields.Dict(keys=fields.String(), values=fields.String(), required=True)
    stops = fields.List(fields.Nested(StopSchema), required=True)
    log = fields.Nested(LogSchema, required=True)


class ProblemPageSchema(StrictSchema):
    """What a problem code means and what to do."""

    code = fields.String(required=True)
    status = fields.Integer(required=True)
    title = fields.String(required=True)
    advice = fields.String(required=True)


@blueprint.get("/healthz")
@operation(summary="Say that the process is up", public="for the orchestrator", answers={200: StatusSchema})
def get_health() -> Response:
    """Answer without touching anything else."""
    return to_response(answer({"status": "ok"}))


@blueprint.get("/readyz")
@operation(
    summary="Say whether requests can be served",
    public="for the load balancer",
    answers={200: ReadySchema, 503: ReadySchema},
)
def get_readiness() -> Response:
    """Check the database, Redis where one is set, and the queue; 503 names what is down, 200 says what is degraded."""
    report = deps().health.report()
    down = [name for name, found in report.items() if found.state == "down"]
    degraded = {name: found.reason or "" for name, found in report.items() if found.state == "degraded"}
    shown = {
        "status": "not_ready" if down else "degraded" if degraded else "ready",
        "checks": {name: found.state for name, found in report.items()},
        "down": down,
        "degraded": degraded,
        "stops": [] if "database" in down else _stops(),
        "log": _log(),
    }
    return to_response(answer(shown, 503 if down else 200, {"Retry-After": "2"} if down else None))


def _log() -> dict[str, Any]:
    trouble = read_log_trouble()
    status = "ok" if trouble.reason is None else "failing"
    return {"status": status, "reason": trouble.reason, "dropped_lines": trouble.dropped}


def _stops() -> list[dict[str, Any]]:
    try:
        with deps().database.read() as connection:
            stops = read_stops(connection)
    except Unavailable:
        return []
    return [
        {
            "gate": gate.key,
            "reason": gate.detail.get("reason"),
            "since": _shown(gate.detail.get("since")),
            "opens_at": None if gate.opens_at is None else rfc3339(gate.opens_at),
        }
        for gate in stops
    ]


def _shown(moment: str | None) -> str | None:
    return None if moment is None else rfc3339(datetime.fromisoformat(moment))


@blueprint.get("/metrics")
@operation(
    summary="Metrics for Prometheus",
    public="open, or with its own token where one is set",
    answers={200: "text/plain"},
    problems=("unauthenticated",),
)
def get_metrics() -> Response:
    """Expose the metrics of all processes."""
    world = deps()
    token = world.settings.metrics_token
    given = request.headers.get("Authorization", "")
    if token is not None and not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
        raise Unauthenticated("The metrics ask for their own bearer token.")
    return Response(world.metrics.expose(), content_type="text/plain; version=0.0.4; charset=utf-8")


@blueprint.get("/openapi.json")
@operation(summary="The specification as JSON", public="it is no secret", answers={200: "application/json"})
def get_openapi_json() -> Response:
    """Return this document."""
    return Response(_specification("json"), content_type="application/json")


@blueprint.get("/openapi.yaml")
@operation(summary="The specification as YAML", public="it is no secret", answers={200: "application/yaml"})
def get_openapi_yaml() -> Response:
    """Return this document."""
    return Response(_specification("yaml"), content_type="application/yaml; charset=utf-8")


def _specification(form: str) -> str:
    # Made once for each app: it takes long enough to be a way to keep the service busy.
    made: dict[str, str] = current_app.extensions.setdefault("smsapi.specification", {})
    if form not in made:
        made[form] = dump_openapi(current_app) if form == "yaml" else answer(document_of(current_app)).body
    return made[form]


@blueprint.get("/docs")
@operation(
    summary="The documentation page", public="it is no secret", answers={200: "text/html"}, problems=("not_found",)
)
def get_docs() -> Response:
    """Show the specification in a browser; every asset is local."""
    return _page(_asset("docs_page.html"), "text/html; charset=utf-8")


@blueprint.get("/docs/assets/<name>")
@operation(
    summary="An asset of the documentation page",
    public="it is no secret",
    answers={200: ("text/css", "text/javascript")},
    problems=("not_found",),
)
def get_docs_asset(name: str) -> Response:
    """Return the script or the style sheet."""
    if name not in _ASSETS:
        raise NotFound("There is no such asset.")
    path, content_type = _ASSETS[name]
    return _page(_asset(f"static/{path}"), content_type)


def _asset(path: str) -> bytes:
    if not deps().settings.docs:
        raise NotFound("The documentation page is switched off.")
    return files("smsapi.web").joinpath(path).read_bytes()


def _page(content: bytes | str, content_type: str) -> Response:
    # The same for everybody, and large: a browser may keep it for a while.
    headers = {"Content-Security-Policy": _DOCS_POLICY, "Cache-Control": "public, max-age=3600"}
    return Response(content, content_type=content_type, headers=headers)


@blueprint.get("/problems/<code>")
@operation(
    summary="What a problem code means",
    public="it is no secret",
    answers={200: (ProblemPageSchema, "text/html")},
    problems=("not_found",),
)
def get_problem(code: str) -> Response:
    """Explain the code: as JSON, or as a page where a browser asks."""
    if code not in PROBLEMS:
        raise NotFound("There is no such problem.")
    problem = PROBLEMS[code]
    if request.accept_mimetypes.best_match(["application/json", "text/html"]) == "text/html":
        title = f"{problem.status} {code}: {escape(problem.title)}"
        page = f"<!doctype html><meta charset=utf-8><title>{title}</title><h1>{title}</h1><p>{escape(problem.advice)}"
        return _page(page, "text/html; charset=utf-8")
    return to_response(
        answer({"code": code, "status": problem.status, "title": problem.title, "advice": problem.advice})
    )
