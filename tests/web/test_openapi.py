"""openapi.yaml is the code's own account of itself: whole, valid, and true of every route."""

import re
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

import smsapi.errors
from smsapi.app import create_app
from smsapi.errors import SettingsInvalid, SmsapiError
from smsapi.send.testmode import TestProvider
from smsapi.settings import read_settings
from smsapi.web.fields import BodySchema
from smsapi.web.openapi import document_of, dump_openapi
from smsapi.web.operations import operation_of
from smsapi.web.problems import PROBLEMS

SPEC = Path(__file__).parents[2] / "openapi.yaml"
METHODS = {"get", "post", "put", "patch", "delete"}


@pytest.fixture(scope="module")
def app():
    made = create_app(read_settings({}, jwt_secret="-" * 32), provider=TestProvider())
    yield made
    made.extensions["smsapi"].executor.shutdown()


@pytest.fixture(scope="module")
def document(app):
    return document_of(app)


def operations(document):
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def answers(document, operation):
    for status, answer in operation["responses"].items():
        yield status, resolved(document, answer)


def resolved(document, part):
    while "$ref" in part:
        found = document
        for step in part["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        part = found
    return part


def test_no_paragraph_of_a_description_is_indented_which_markdown_shows_as_code(document):
    indented = [name for name, operation in operations(document) if "\n    " in operation["description"]]
    assert indented == []


def test_the_committed_specification_is_what_the_code_makes_byte_for_byte(app):
    assert SPEC.read_bytes() == dump_openapi(app).encode(), "run: make openapi"


def test_the_same_app_gives_the_same_document_twice(app, document):
    assert document_of(app) == document
    assert yaml.safe_load(dump_openapi(app)) == document


def test_it_is_valid_openapi_3_1(document):
    assert document["openapi"] == "3.1.0"
    assert list(OpenAPIV31SpecValidator(document).iter_errors()) == []
    # Swagger UI warns of a dialect, even of the right one.
    assert "jsonSchemaDialect" not in document


def test_every_schema_is_a_json_schema(document):
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_every_route_is_in_it_and_every_path_exists(app, document):
    routes = {
        f"{method} {rule.rule}".replace("<", "{").replace(">", "}")
        for rule in app.url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }
    assert {name for name, _ in operations(document)} == routes


def test_every_operation_is_described_for_people_and_for_generators(document):
    tags = {tag["name"] for tag in document["tags"]}
    names = []
    for name, operation in operations(document):
        names.append(operation["operationId"])
        assert re.fullmatch(r"[a-z]+(_[a-z]+)+", operation["operationId"]), name
        assert 5 <= len(operation["summary"]) <= 80, name
        assert not operation["summary"].endswith("."), name
        assert len(operation["description"]) > len("Return this document."), name
        assert operation["tags"], name
        assert set(operation["tags"]) <= tags, name
        assert any(status.startswith("2") for status in operation["responses"]), name
        assert any(status.startswith("4") for status in operation["responses"]), name
        for parameter in operation["parameters"]:
            assert "schema" in parameter, name
            assert parameter.get("description") or parameter["in"] == "query", name
    assert len(names) == len(set(names))


def test_every_operation_asks_for_a_credential_or_says_why_not(app, document):
    routes = {
        rule.endpoint.rpartition(".")[2]: operation_of(app.view_functions[rule.endpoint]) for rule in routes_of(app)
    }
    for name, operation in operations(document):
        declared = routes[operation["operationId"]]
        if declared.public is None:
            scopes = [declared.scope] if declared.scope else []
            assert operation["security"] == [{"apiKey": scopes}, {"bearer": scopes}], name
            assert {"401", "429", "503"} <= operation["responses"].keys(), name
            assert ("403" in operation["responses"]) == bool(scopes), name
        else:
            assert f"Needs no login: {declared.public}." in operation["description"]
            assert {} in operation["security"] or operation["security"] in ([], [{"plivoSignature": []}]), name


def routes_of(app):
    return list(app.url_map.iter_rules())


def test_a_token_is_asked_for_by_nothing_or_by_basic_never_by_a_key(document):
    assert document["paths"]["/v1/auth/token"]["post"]["security"] == [{}, {"basic": []}]


def test_every_scheme_tag_and_component_is_used(document):
    text = str({key: value for key, value in document.items() if key != "tags"})
    for kind, parts in document["components"].items():
        for name in parts:
            used = f"'#/components/{kind}/{name}'" in text
            assert used or kind == "securitySchemes", f"{kind}/{name}"
    used = {scheme for _, each in operations(document) for either in each["security"] for scheme in either}
    assert used == document["components"]["securitySchemes"].keys()
    assert {tag for _, each in operations(document) for tag in each["tags"]} == {
        tag["name"] for tag in document["tags"]
    }


def test_every_documented_problem_exists_and_every_problem_is_documented(document):
    documented = set()
    for name, operation in operations(document):
        for status, answer in answers(document, operation):
            examples = answer.get("content", {}).get("application/problem+json", {}).get("examples", {})
            assert all(PROBLEMS[code].status == int(status) for code in examples), name
            documented |= examples.keys()
    assert documented == PROBLEMS.keys()
    assert document["components"]["schemas"]["Problem"]["properties"]["code"]["enum"] == sorted(PROBLEMS)


def test_every_error_of_the_domain_has_a_problem_and_every_problem_an_error():
    def tree(kind):
        return {kind}.union(*(tree(each) for each in kind.__subclasses__()))

    codes = {kind.code for kind in tree(SmsapiError)}
    # Bad settings stop the start, so nobody is there to be told by HTTP.
    assert codes - {SettingsInvalid.code} == PROBLEMS.keys()
    for kind in tree(SmsapiError) - {SmsapiError}:
        assert kind.__module__ != "smsapi.errors" or kind.__name__ in smsapi.errors.__doc__, kind


def test_every_answer_names_its_headers(document):
    for name, operation in operations(document):
        limited = {"apiKey"} & {scheme for each in operation["security"] for scheme in each}
        for status, answer in answers(document, operation):
            headers = answer["headers"].keys()
            assert "X-Request-Id" in headers, name
            assert ({"RateLimit", "RateLimit-Policy"} <= headers) == bool(limited), name
            assert ("Retry-After" in headers) == (status in {"409", "429", "503"}), name
            assert ("WWW-Authenticate" in headers) == (status == "401"), name
    sends = document["paths"]["/v1/messages"]["post"]["responses"]
    for status in ("201", "202"):
        assert {"Location", "Preference-Applied", "Idempotent-Replayed"} <= sends[status]["headers"].keys()


def test_unknown_fields_are_refused_in_every_body_of_json(document):
    bodies = [each["requestBody"]["content"] for _, each in operations(document) if "requestBody" in each]
    assert len(bodies) > 5
    for content in bodies:
        if "application/json" not in content:
            continue  # a file
        assert resolved(document, content["application/json"]["schema"])["additionalProperties"] is False


def test_every_example_of_a_request_is_one_that_the_schema_takes(document):
    count = 0
    for _, operation in operations(document):
        content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
        for example in content.get("examples", {}).values():
            schema = {**content["schema"], "components": document["components"]}
            assert list(Draft202012Validator(schema).iter_errors(example["value"])) == []
            count += 1
    assert count >= 6


def test_every_example_of_a_problem_is_one(document):
    schema = Draft202012Validator(document["components"]["schemas"]["Problem"])
    for code, example in document["components"]["examples"].items():
        assert list(schema.iter_errors(example["value"])) == []
        assert example["value"]["code"] == code


def test_rules_are_in_the_words_of_json_schema(document):
    order = document["components"]["schemas"]["Order"]
    assert order["properties"]["to"]["pattern"] == r"^\+[1-9][0-9]{1,14}$"
    assert order["properties"]["metadata"]["maxProperties"] == 20
    assert order["properties"]["metadata"]["propertyNames"]["maxLength"] == 64
    assert order["properties"]["reference"]["maxLength"] == 255
    assert (order["properties"]["expires_in"]["minimum"], order["properties"]["expires_in"]["maximum"]) == (5, 10799)
    assert sorted(order["required"]) == ["text", "to"]
    for words in re.findall(r"'pattern': '([^']*)'", str(document)):
        assert "\\\\A" not in words
        assert "\\\\Z" not in words
    # OpenAPI 3.1 reads "example" in no schema.
    assert not any("example" in each for schema in schemas(document) for each in schema.get("properties", {}).values())


def schemas(document):
    return document["components"]["schemas"].values()


def test_a_query_never_has_null(document):
    for name, operation in operations(document):
        for parameter in operation["parameters"]:
            assert "null" not in parameter["schema"].get("type", ""), name
            assert parameter["schema"].get("default", "") is not None, name


def test_it_is_written_for_readers():
    text = SPEC.read_text(encoding="utf-8")
    assert text.startswith("openapi: 3.1.0\ninfo:\n  title: smsapi\n")
    assert not re.search(r"[:-] [&*]id\d+", text)
    assert len(text.splitlines()) < 8000


def test_every_body_takes_null_for_an_optional_field_but_a_change(app):
    for rule in app.url_map.iter_rules():
        operation = operation_of(app.view_functions[rule.endpoint])
        if operation is not None and operation.body is not None:
            takes = issubclass(operation.body, BodySchema) and operation.body.null_is_absent
            assert takes != ("PATCH" in rule.methods), rule
