"""Numbers and other strings in paths and queries, hostile ones too: a clear refusal on every route, never a failure."""

from urllib.parse import quote

import pytest

from smsapi.web.operations import operation_of
from tests.support.api import TO

# As they stand in a URL. None of them is the id, the number or the value of anything.
HOSTILE = (
    "%00",
    "x%00",
    "%2B14155550123%00",
    "%0A",
    "%7F",
    "%C2%85",
    "%20",
    "%2B",
    "%25",
    "%FF",
    "%ED%A0%80",
    quote("٤١٥٥٥٥٠١٢٣"),
    quote("+١٤١٥٥٥٥٠١٢٣"),
    "%EF%BC%8B14155550123",
    quote("é\u202e😀"),
    "-1",
    "1e309",
    "9" * 400,
    "x" * 3000,
    "%27%20OR%201=1--",
    "9999-12-31T23:59:59Z",
    "0001-01-01T00:00:00%2B14:00",
)
NUMBERS = (
    "14155550123",
    "%2014155550123",
    "%2B1%20415%20555%200123",
    "%2B1415555012٣",
    "%2B1415555%0A0123",
    "%2B14155550123%00",
    "%2B04155550123",
    "%2B1415555012312345",
    "0014155550123",
    "%EF%BC%8B14155550123",
    quote("+١٤١٥٥٥٥٠١٢٣"),
)


def routes(app):
    """Yield every method and rule below /v1 and /plivo, with its variables and the parameters of its query."""
    for rule in app.url_map.iter_rules():
        described = operation_of(app.view_functions[rule.endpoint])
        if described is not None:
            for method in sorted(rule.methods & {"GET", "POST", "PUT", "PATCH", "DELETE"}):
                yield method, rule, described


def ask(caller, method, path):
    body = {} if method in {"POST", "PUT", "PATCH"} else None
    return caller.app.test_client().open(path, method=method, json=body, headers={"X-API-Key": caller.key})


def test_no_string_in_a_path_makes_any_route_fail(app, caller):
    asked = 0
    for method, rule, _ in routes(app):
        for name in sorted(rule.arguments):
            for value in HOSTILE:
                path = rule.rule
                for each in rule.arguments:
                    path = path.replace(f"<{each}>", value if each == name else "x")
                answer = ask(caller, method, path)
                # Codes are limited by address and such: what matters is that nothing is broken by a string.
                assert answer.status_code < 500, (method, path, answer.get_json())
                assert answer.status_code in {400, 401, 403, 404, 405, 415, 422, 429}, (
                    method,
                    path,
                    answer.status_code,
                )
                asked += 1
    assert asked > 25 * len(HOSTILE)


def test_no_string_in_a_query_makes_any_route_fail(app, caller):
    asked = 0
    for method, rule, described in routes(app):
        if described.query is None or described.streams or method != "GET":
            continue
        path = rule.rule
        for each in rule.arguments:
            path = path.replace(f"<{each}>", quote(TO) if each == "number" else "x")
        names = [field.data_key or name for name, field in described.query().fields.items()]
        for name in [*names, "unknown"]:
            for value in HOSTILE:
                answer = ask(caller, method, f"{path}?{name}={value}")
                assert answer.status_code < 500, (path, name, value)
                asked += 1
    assert asked > 15 * len(HOSTILE)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_number_that_is_not_written_in_e164_is_refused_alike_wherever_it_stands(app, caller):
    assert caller.request("PUT", f"/v1/opt-outs/{quote(TO)}").status_code == 200
    for value in NUMBERS:
        opted_out = [("GET", ""), ("PUT", ""), ("DELETE", ""), ("GET", "/history")]
        answers = [ask(caller, method, f"/v1/opt-outs/{value}{rest}") for method, rest in opted_out]
        queries = ("messages?to", "messages?from", "inbound-messages?from", "inbound-messages?to")
        answers += [ask(caller, "GET", f"/v1/{query}={value}") for query in queries]
        pointers = ["/number"] * 4 + ["/to", "/from", "/from", "/to"]
        for answer, pointer in zip(answers, pointers, strict=True):
            assert answer.status_code == 422, (value, pointer)
            assert [each["pointer"] for each in answer.get_json()["errors"]] == [pointer]
    for spelled in (quote(TO), TO):
        assert caller.get(f"/v1/opt-outs/{spelled}").get_json()["number"] == TO
        assert caller.get(f"/v1/opt-outs/{spelled}/history").get_json()["data"]
    assert ask(caller, "DELETE", f"/v1/opt-outs/{TO}").status_code == 204


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_bare_plus_in_a_query_is_refused_and_not_read_as_a_number_that_nobody_texted(caller):
    for query in ("messages?to", "messages?from", "inbound-messages?from", "inbound-messages?to"):
        answer = caller.get(f"/v1/{query}={TO}")
        assert answer.status_code == 422
        assert "its + as %2B" in answer.get_json()["errors"][0]["message"]
