"""The specification (OpenAPI 3.1), made from what the routes say of themselves and the schemas that they load with."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import yaml
from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from flask import Flask
from marshmallow import Schema
from werkzeug.routing import Rule

from smsapi import __version__
from smsapi.web.operations import Operation, operation_of
from smsapi.web.problems import PROBLEMS

_DESCRIPTION = """\
Send SMS through Plivo: nothing lost, nothing twice, nothing that surprises the bill.

Every answer carries `X-Request-Id`. Errors are `application/problem+json` (RFC 9457); `GET /problems/{code}` says what
to do about each. Unknown fields are refused. Times are RFC 3339 in UTC. Lists are newest first and go on with
`cursor`. With an `Idempotency-Key`, a POST that creates or sends can be repeated safely for 24 hours."""

_PROBLEM = {
    "type": "object",
    "description": "A problem (RFC 9457).",
    "required": ["type", "title", "status", "detail", "code", "request_id"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string"},
        "request_id": {"type": "string"},
        "message_id": {"type": "string", "description": "The message that was refused by Plivo."},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["pointer", "message"],
                "properties": {
                    "pointer": {"type": "string", "description": "RFC 6901, such as /to."},
                    "message": {"type": "string"},
                },
            },
        },
    },
}
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
# What every route may answer, whatever it is for.
_ALWAYS = ("malformed_request", "internal_error", "unavailable")
_WITH_CREDENTIAL = ("unauthenticated", "too_many_failed_logins", "rate_limited", "store_unavailable")
_WITH_BODY = ("body_too_large", "unsupported_media_type", "validation_failed")
_WITH_IDEMPOTENCY = ("idempotency_key_invalid", "idempotency_key_reused", "idempotency_in_progress")


def document_of(app: Flask) -> dict[str, Any]:
    """Return the specification of the app as plain values; the same app gives the same document."""
    spec = APISpec(
        title="smsapi",
        version=__version__,
        openapi_version="3.1.0",
        info={"description": _DESCRIPTION, "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}},
        plugins=[MarshmallowPlugin(schema_name_resolver=_name_of)],
    )
    spec.components.schema("Problem", _PROBLEM)
    spec.components.security_scheme("apiKey", {"type": "apiKey", "in": "header", "name": "X-API-Key"})
    spec.components.security_scheme("bearer", {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"})
    spec.components.security_scheme("basic", {"type": "http", "scheme": "basic"})
    for rule, method, operation, view_doc in _operations(app):
        path = re.sub(r"<(?:[^:<>]+:)?([^<>]+)>", r"{\1}", rule.rule)
        spec.path(path=path, operations={method.lower(): _describe(rule, operation, view_doc)})
    document: dict[str, Any] = spec.to_dict()
    return document


def dump_openapi(app: Flask) -> str:
    """Return the specification of the app as YAML."""
    text: str = yaml.safe_dump(document_of(app), sort_keys=False, allow_unicode=True, width=120)
    return text


def _operations(app: Flask) -> Iterator[tuple[Rule, str, Operation, str]]:
    for rule in sorted(app.url_map.iter_rules(), key=lambda rule: rule.rule):
        view = app.view_functions[rule.endpoint]
        operation = operation_of(view)
        if operation is not None:
            for method in _METHODS:
                if method in (rule.methods or ()):
                    yield rule, method, operation, (view.__doc__ or "").strip()


def _name_of(schema: type[Schema] | Schema | str) -> str:
    kind = schema if isinstance(schema, type) else type(schema)
    return str(schema) if isinstance(schema, str) else kind.__name__.removesuffix("Schema")


def _describe(rule: Rule, operation: Operation, doc: str) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": rule.endpoint.rpartition(".")[2],
        "tags": [rule.endpoint.partition(".")[0]],
        "summary": operation.summary,
        "description": doc,
        "security": _security(operation),
        "parameters": list(_parameters(rule, operation)),
        "responses": dict(_responses(operation)),
    }
    if operation.body is not None:
        content: dict[str, Any] = {"application/json": {"schema": operation.body}}
        if operation.form is not None:
            content["application/x-www-form-urlencoded"] = {"schema": operation.form}
        described["requestBody"] = {"required": not operation.body_optional, "content": content}
    return described


def _security(operation: Operation) -> list[dict[str, list[str]]]:
    if operation.form is not None:
        return [{}, {"basic": []}]
    if operation.public is not None:
        return []
    scopes = [operation.scope] if operation.scope else []
    return [{"apiKey": scopes}, {"bearer": scopes}]


def _parameters(rule: Rule, operation: Operation) -> Iterator[dict[str, Any]]:
    for name in sorted(rule.arguments):
        yield {"in": "path", "name": name, "required": True, "schema": {"type": "string"}}
    if operation.query is not None:
        yield {"in": "query", "schema": operation.query}
    if operation.idempotent:
        yield _header("Idempotency-Key", "Makes repeating the request safe: 1 to 255 visible ASCII characters.")
    for name, description in operation.headers.items():
        yield _header(name, description)


def _header(name: str, description: str) -> dict[str, Any]:
    return {"in": "header", "name": name, "required": False, "description": description, "schema": {"type": "string"}}


def _responses(operation: Operation) -> Iterator[tuple[str, dict[str, Any]]]:
    for status, kind in operation.answers.items():
        yield str(status), _answer(operation, kind)
    by_status: dict[int, list[str]] = defaultdict(list)
    for code in _problems_of(operation):
        by_status[PROBLEMS[code].status].append(code)
    for status, codes in sorted(by_status.items()):
        if status not in operation.answers:
            listed = ", ".join(f"`{code}`" for code in sorted(set(codes)))
            schema = {"$ref": "#/components/schemas/Problem"}
            yield str(status), {"description": listed, "content": {"application/problem+json": {"schema": schema}}}


def _answer(operation: Operation, kind: type[Schema] | str | None) -> dict[str, Any]:
    described: dict[str, Any] = {"description": operation.summary + "."}
    if isinstance(kind, str):
        described["content"] = {kind: {}}
    elif kind is not None:
        described["content"] = {"application/json": {"schema": kind}}
    return described


def _problems_of(operation: Operation) -> Iterable[str]:
    yield from _ALWAYS
    yield from operation.problems
    if operation.public is None:
        yield from _WITH_CREDENTIAL
        if operation.scope is not None:
            yield "insufficient_scope"
    if operation.body is not None:
        yield from _WITH_BODY
    if operation.query is not None:
        yield "validation_failed"
    if operation.idempotent:
        yield from _WITH_IDEMPOTENCY
