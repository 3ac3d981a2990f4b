"""The specification (OpenAPI 3.1), made from what the routes say of themselves and the schemas that they load with."""

import inspect
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import yaml
from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from flask import Flask
from marshmallow import Schema, fields, validate
from werkzeug.routing import Rule

from smsapi import __version__
from smsapi.web import openapi_parts as parts
from smsapi.web.fields import Line
from smsapi.web.operations import Kind, Operation, operation_of
from smsapi.web.pagination import Cursor
from smsapi.web.problems import PROBLEMS

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
# What every route may answer, whatever it is for.
_ALWAYS = (
    *("malformed_request", "method_not_allowed", "uri_too_long", "headers_too_large"),
    *("internal_error", "unavailable"),
)
_WITH_CREDENTIAL = ("unauthenticated", "too_many_failed_logins", "rate_limited", "store_unavailable")
_WITH_BODY = ("body_incomplete", "body_too_large", "unsupported_media_type", "validation_failed")
_WITH_IDEMPOTENCY = ("idempotency_key_invalid", "idempotency_key_reused", "idempotency_in_progress")
_WAITS = frozenset({409, 429, 503})
# An answer of these statuses is kept with the Idempotency-Key and given again.
_REPLAYED_PROBLEMS = frozenset({422, 502})
_NO_CONTROL = r"^[^\u0000-\u001f\u007f-\u009f]*$"
_PROBLEM_CONTENT = "application/problem+json"


def document_of(app: Flask) -> dict[str, Any]:
    """Return the specification of the app as plain values; the same app gives the same document."""
    marshmallow = MarshmallowPlugin(schema_name_resolver=_name_of)
    spec = APISpec(
        title="smsapi",
        version=__version__,
        openapi_version="3.1.0",
        info={
            "title": "smsapi",
            "version": __version__,
            "summary": "A headless JSON API that sends SMS through Plivo.",
            "description": parts.DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        servers=[{"url": "/", "description": "The service that gave this document."}],
        tags=[{"name": name, "description": description} for name, description in parts.TAGS.items()],
        plugins=[marshmallow],
    )
    if marshmallow.converter is not None:
        marshmallow.converter.add_attribute_function(_rules_of)  # type: ignore[no-untyped-call]
    spec.components.schema("Problem", dict(parts.PROBLEM_SCHEMA))
    for name, scheme in parts.SECURITY_SCHEMES.items():
        spec.components.security_scheme(name, scheme)
    for name, header in parts.HEADERS.items():
        spec.components.header(name, header)
    for code in PROBLEMS:
        spec.components.example(code, parts.problem_example(code))
    for rule, method, operation, view_doc in _operations(app):
        path = re.sub(r"<(?:[^:<>]+:)?([^<>]+)>", r"{\1}", rule.rule)
        spec.path(path=path, operations={method.lower(): _describe(rule, operation, view_doc)})
    for name, described in _problem_responses(app).items():
        spec.components.response(name, described)
    document: dict[str, Any] = spec.to_dict()
    return _refined({"openapi": document.pop("openapi"), **document})


def dump_openapi(app: Flask) -> str:
    """Return the specification of the app as YAML."""
    text: str = yaml.dump(document_of(app), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return text


class _Dumper(yaml.SafeDumper):
    """Writes for readers: no anchors, and text of several lines as a block."""

    def ignore_aliases(self, data: Any) -> bool:
        del data
        return True


def _written(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _written)


def _operations(app: Flask) -> Iterator[tuple[Rule, str, Operation, str]]:
    for rule in sorted(app.url_map.iter_rules(), key=lambda rule: rule.rule):
        view = app.view_functions[rule.endpoint]
        operation = operation_of(view)
        if operation is not None:
            for method in _METHODS:
                if method in (rule.methods or ()):
                    # Python 3.13 takes a docstring's indentation away itself, and before it nothing does.
                    yield rule, method, operation, inspect.cleandoc(view.__doc__ or "")


def _name_of(schema: type[Schema] | Schema | str) -> str:
    kind = schema if isinstance(schema, type) else type(schema)
    return str(schema) if isinstance(schema, str) else kind.__name__.removesuffix("Schema")


def _rules_of(_converter: Any, field: fields.Field[Any], **_: Any) -> dict[str, Any]:
    """Return what apispec does not know of our own fields."""
    if isinstance(field, Line):
        return {"pattern": _NO_CONTROL}
    if isinstance(field, Cursor):
        return {"pattern": "^[A-Za-z0-9_-]{24}$"}
    if isinstance(field, fields.Dict):
        return _rules_of_mapping(field)
    return {}


def _rules_of_mapping(field: fields.Dict) -> dict[str, Any]:
    rules: dict[str, Any] = {}
    if isinstance(field.key_field, Line):
        bounds = field.key_field.bounds
        rules["propertyNames"] = {"minLength": bounds.min, "maxLength": bounds.max, "pattern": _NO_CONTROL}
    for bound in (each for each in field.validators if isinstance(each, validate.Length)):
        rules["maxProperties"] = bound.max
    return rules


def _describe(rule: Rule, operation: Operation, doc: str) -> dict[str, Any]:
    name = rule.endpoint.rpartition(".")[2]
    public = "" if operation.public is None else f"\n\nNeeds no login: {operation.public}."
    described: dict[str, Any] = {
        "operationId": name,
        "tags": [rule.endpoint.partition(".")[0]],
        "summary": operation.summary,
        "description": doc + public,
        "security": _security(name, operation),
        "parameters": list(_parameters(rule, operation)),
        "responses": dict(_responses(name, operation)),
    }
    if operation.body is not None:
        content: dict[str, Any] = {"application/json": {"schema": operation.body}}
        if name in parts.REQUEST_EXAMPLES:
            content["application/json"]["examples"] = dict(parts.REQUEST_EXAMPLES[name])
        if operation.form is not None:
            content["application/x-www-form-urlencoded"] = {"schema": operation.form}
        described["requestBody"] = {"required": not operation.body_optional, "content": content}
    if operation.takes is not None:
        kinds = (operation.takes,) if isinstance(operation.takes, str) else operation.takes
        described.setdefault("requestBody", {"required": True, "content": {}})
        described["requestBody"]["content"] |= {kind: {"schema": {"type": "string"}} for kind in kinds}
    return described


def _security(name: str, operation: Operation) -> list[dict[str, list[str]]]:
    if operation.public is not None:
        return parts.OWN_SECURITY.get(name, [])
    scopes = [operation.scope] if operation.scope else []
    return [{"apiKey": scopes}, {"bearer": scopes}]


def _parameters(rule: Rule, operation: Operation) -> Iterator[dict[str, Any]]:
    for name in sorted(rule.arguments):
        yield {"in": "path", "name": name, "required": True, **parts.PATH_PARAMETERS[name]}
    if operation.query is not None:
        yield {"in": "query", "schema": operation.query}
    if operation.idempotent:
        yield dict(parts.IDEMPOTENCY_KEY)
    for name, description in operation.headers.items():
        schema = {"type": "string"}
        yield {"in": "header", "name": name, "required": False, "description": description, "schema": schema}


def _responses(name: str, operation: Operation) -> Iterator[tuple[str, dict[str, Any]]]:
    problems = _problems_by_status(operation)
    for status, kinds in operation.answers.items():
        described: dict[str, Any] = {
            "description": parts.ANSWERS.get((name, status), f"{operation.summary}."),
            "headers": _headers(operation, status),
        }
        if content := {**_answered(kinds), **_problem_content(problems.get(status, ()))}:
            described["content"] = content
        yield str(status), described
    for status, codes in sorted(problems.items()):
        if status not in operation.answers:
            yield str(status), _reference("responses", _problem_name(operation, codes))


def _problem_responses(app: Flask) -> dict[str, dict[str, Any]]:
    """Return the refusals of all operations, each set of codes once."""
    found: dict[str, dict[str, Any]] = {}
    for _, _, operation, _ in _operations(app):
        for status, codes in _problems_by_status(operation).items():
            if status not in operation.answers:
                found[_problem_name(operation, codes)] = {
                    "description": ", ".join(f"`{code}`" for code in codes),
                    "headers": _headers(operation, status),
                    "content": _problem_content(codes),
                }
    return dict(sorted(found.items()))


def _problem_name(operation: Operation, codes: tuple[str, ...]) -> str:
    kind = "public" if operation.public is not None else "once" if operation.idempotent else "limited"
    return ".".join((kind, *codes))


def _problems_by_status(operation: Operation) -> dict[int, tuple[str, ...]]:
    by_status: dict[int, list[str]] = defaultdict(list)
    for code in sorted(set(_problems_of(operation))):
        by_status[PROBLEMS[code].status].append(code)
    return {status: tuple(codes) for status, codes in by_status.items()}


def _headers(operation: Operation, status: int) -> dict[str, Any]:
    return {name: _reference("headers", name) for name in _header_names(operation, status)}


def _header_names(operation: Operation, status: int) -> Iterator[str]:
    yield "X-Request-Id"
    if operation.public is None:
        yield from ("RateLimit-Policy", "RateLimit")
    if status in _WAITS:
        yield "Retry-After"
    if status == 401:  # noqa: PLR2004 - RFC 9110 section 11.6.1
        yield "WWW-Authenticate"
    if status == 405:  # noqa: PLR2004 - RFC 9110 section 15.5.6
        yield "Allow"
    if operation.idempotent and (status in operation.answers or status in _REPLAYED_PROBLEMS):
        yield "Idempotent-Replayed"
    if operation.sends and status in operation.answers:
        yield "Location"
        if "Prefer" in operation.headers:
            yield "Preference-Applied"


def _answered(kinds: Kind | tuple[Kind, ...]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for kind in kinds if isinstance(kinds, tuple) else (kinds,):
        if isinstance(kind, str):
            content[kind] = {"schema": {"type": "object" if kind.endswith(("json", "yaml")) else "string"}}
        elif kind is not None:
            content["application/json"] = {"schema": kind}
    return content


def _problem_content(codes: Sequence[str]) -> dict[str, Any]:
    if not codes:
        return {}
    examples = {code: _reference("examples", code) for code in codes}
    return {_PROBLEM_CONTENT: {"schema": _reference("schemas", "Problem"), "examples": examples}}


def _reference(kind: str, name: str) -> dict[str, str]:
    return {"$ref": f"#/components/{kind}/{name}"}


def _problems_of(operation: Operation) -> Iterable[str]:
    yield from _ALWAYS
    yield from operation.problems
    if operation.public is None:
        yield from _WITH_CREDENTIAL
        if operation.scope is not None:
            yield "insufficient_scope"
    if operation.body is not None or operation.takes is not None:
        yield from _WITH_BODY
    if operation.query is not None:
        yield "validation_failed"
    if operation.idempotent:
        yield from _WITH_IDEMPOTENCY


def _refined(document: dict[str, Any]) -> dict[str, Any]:
    schemas = document["components"]["schemas"]
    for name, properties in parts.PROPERTIES.items():
        for each, rules in properties.items():
            schemas[name]["properties"][each] |= rules
    for operation in (each for methods in document["paths"].values() for each in methods.values()):
        for parameter in operation["parameters"]:
            if parameter["in"] == "query":
                _without_null(parameter["schema"])
                _mend(parameter["schema"])
                extra = parts.QUERY_PROPERTIES.get(operation["operationId"], {})
                parameter["schema"] |= extra.get(parameter["name"], {})
                if len(operation.get("requestBody", {"content": ()})["content"]) > 1:
                    # Beside a file it stands for the fields of a JSON body: whoever sends JSON leaves it out, and a
                    # client that sends defaults would contradict its own body.
                    parameter["required"] = False
                    parameter["schema"].pop("default", None)
    for schema in schemas.values():
        for each in schema.get("properties", {}).values():
            _mend(each)
    # RFC 6749 section 3.2: what a token request has besides is ignored.
    schemas["TokenForm"]["additionalProperties"] = True
    for name in ("ClientPatch", "EndpointPatch", "MessagePatch"):
        schemas[name]["minProperties"] = 1
    return document


def _mend(schema: dict[str, Any]) -> None:
    # OpenAPI 3.1 has the list of JSON Schema in place of its own word.
    if "example" in schema:
        schema["examples"] = [schema.pop("example")]
    # For apispec every length is a text's.
    if "object" in schema.get("type", ()):
        schema.pop("maxLength", None)
    # Python's anchors are not those of ECMA 262.
    if "pattern" in schema:
        schema["pattern"] = schema["pattern"].replace(r"\A", "^").replace(r"\Z", "$")
    if isinstance(schema.get("items"), dict):
        _mend(schema["items"])


def _without_null(schema: dict[str, Any]) -> None:
    # A field that may be absent is null for Marshmallow; a query has no null.
    if isinstance(schema.get("type"), list):
        schema["type"] = next(kind for kind in schema["type"] if kind != "null")
    if None in schema.get("enum", ()):
        schema["enum"] = [each for each in schema["enum"] if each is not None]
    if schema.get("default", "") is None:
        del schema["default"]
