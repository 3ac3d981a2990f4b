"""Every answer of the suite, held against openapi.yaml as it is committed."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import orjson
import yaml
from jsonschema import Draft202012Validator

_SPEC = Path(__file__).parents[2] / "openapi.yaml"
# Paths that are nobody's: no route matched, and the answer is a problem all the same.
_UNROUTED = frozenset({404, 405})


@cache
def spec() -> dict[str, Any]:
    return yaml.load(_SPEC.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)


@cache
def _paths() -> list[tuple[re.Pattern[str], str]]:
    # Literal paths first: /v1/messages/preview is not a message called preview.
    templates = sorted(spec()["paths"], key=lambda path: path.count("{"))
    return [(re.compile(re.sub(r"\\\{[^}]+\\\}", "[^/]+", re.escape(path))), path) for path in templates]


@cache
def _validator(reference: str) -> Draft202012Validator:
    return Draft202012Validator(
        {"$ref": reference, "components": spec()["components"]}, format_checker=Draft202012Validator.FORMAT_CHECKER
    )


def check_answer(method: str, path: str, status: int, content_type: str, body: bytes) -> None:
    """Fail where the specification does not know this answer, or a shell's prompt would stand behind its JSON."""
    is_json = content_type.partition(";")[0].endswith("json") and method != "HEAD"
    assert not is_json or body.endswith(b"\n"), f"{method} {path} answered JSON without a line end"
    assert status != 500, f"{method} {path} answered 500: {body[:500]!r}"
    template = next((template for pattern, template in _paths() if pattern.fullmatch(path)), None)
    operation = spec()["paths"].get(template, {}).get(method.lower()) if template else None
    if operation is None:
        assert status in _UNROUTED or method in {"OPTIONS", "HEAD"}, f"{method} {path} is undocumented: {status}"
        if method not in {"OPTIONS", "HEAD"}:
            _check_body("#/components/schemas/Problem", body)
        return
    answers = operation["responses"]
    assert str(status) in answers, f"{method} {template} answered {status}, which is not documented"
    answer = answers[str(status)]
    if "$ref" in answer:
        answer = spec()["components"]["responses"][answer["$ref"].rpartition("/")[2]]
    content = answer.get("content", {})
    media = content_type.partition(";")[0]
    if not content:
        assert body == b"", f"{method} {template} {status} is documented without a body"
        return
    if media not in content:
        documented = list(content)
        assert any(kind == "text/*" for kind in documented) or (media == "text/html" and "html" not in media), (
            f"{method} {template} {status} is {media}, documented as {documented}"
        )
        return
    if "$ref" in content[media].get("schema", {}):
        _check_body(content[media]["schema"]["$ref"], body)


def _check_body(reference: str, body: bytes) -> None:
    errors = [
        f"{'/'.join(map(str, e.path))}: {e.message}" for e in _validator(reference).iter_errors(orjson.loads(body))
    ]
    assert not errors, f"{reference}: {errors}\n{body[:500]!r}"
