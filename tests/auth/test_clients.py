"""Clients over HTTP: for the scope admin only, and a change holds from the next request on, everywhere."""

import json

from click.testing import CliRunner

from smsapi.auth.models import SCOPES
from smsapi.cli import cli
from tests.conftest import eventually
from tests.support.auth import ask_for_token, at_once, bearer, call, clock_at_present, token_of, with_key
from tests.support.dispatching import ASYNC, counts_by_status, multiply, world_of
from tests.support.providers import Scripted, taken

FIELDS = {
    "default_sender": "+14155550100",
    "allowed_senders": ["+14155550100", "ACME", "24365"],
    "allowed_countries": ["US", "DE"],
    "limits": {"send": "5 per minute; 100 per day", "api": "50 per minute"},
    "weight": 7,
}
BAD_CHANGES = (
    ({"name": ""}, "/name"),
    ({"name": None}, "/name"),
    ({"name": "n" * 101}, "/name"),
    ({"name": "a\u0085b"}, "/name"),
    ({"default_sender": ""}, "/default_sender"),
    ({"default_sender": "not a sender"}, "/default_sender"),
    ({"default_sender": "14155550100"}, "/default_sender"),
    ({"default_sender": "House", "allowed_senders": ["ACME"]}, "/default_sender"),
    ({"default_sender": "House", "allowed_senders": []}, "/default_sender"),
    ({"allowed_senders": "ACME"}, "/allowed_senders"),
    ({"allowed_senders": ["ACME", "+1"]}, "/allowed_senders/1"),
    ({"allowed_senders": ["ACME"] * 101}, "/allowed_senders"),
    ({"allowed_countries": ["us"]}, "/allowed_countries/0"),
    ({"allowed_countries": ["US", "XX"]}, "/allowed_countries/1"),
    ({"allowed_countries": ["USA"]}, "/allowed_countries/0"),
    ({"limits": {"send": "many"}}, "/limits/send"),
    ({"limits": {"send": ""}}, "/limits/send"),
    ({"limits": {"send": None}}, "/limits/send"),
    ({"limits": {"send": 600}}, "/limits/send"),
    ({"limits": {"send": "1000000001 per minute"}}, "/limits/send"),
    ({"limits": {"api": "5 per 99999999999 year"}}, "/limits/api"),
    ({"limits": {"api": "; ".join(["5 per minute"] * 30)}}, "/limits/api"),
    ({"limits": {"everything": "5 per minute"}}, "/limits/everything"),
    ({"weight": 0}, "/weight"),
    ({"weight": 101}, "/weight"),
    ({"weight": 1.5}, "/weight"),
    ({"weight": "2"}, "/weight"),
    ({"weight": True}, "/weight"),
    ({"budgets": {}}, "/budgets"),
    ({"id": "cli_1"}, "/id"),
)


def assert_problem(answer, status, code):
    assert (answer.status_code, answer.get_json()["code"]) == (status, code), answer.text


def test_a_client_is_made_with_what_was_given_and_listed_newest_first(caller):
    bare = caller.post("/v1/clients", {"name": "bare"})
    full = caller.post("/v1/clients", {"name": "full", **FIELDS})
    assert (bare.status_code, full.status_code) == (201, 201)
    shown = full.get_json()
    assert {name: shown[name] for name in FIELDS} == FIELDS
    shown = bare.get_json()
    assert (shown["default_sender"], shown["allowed_senders"], shown["allowed_countries"]) == (None, None, None)
    assert (shown["limits"], shown["weight"]) == ({}, 1)
    assert shown["created_at"] == shown["updated_at"]
    listed = caller.get("/v1/clients").get_json()["data"]
    assert [each["name"] for each in listed] == ["full", "bare", "caller"]
    assert listed[:2] == [full.get_json(), bare.get_json()]


def test_only_an_admin_may_look_at_clients_or_change_them(app, make_caller):
    rest = tuple(scope for scope in SCOPES if scope != "admin")
    other, admin = make_caller(app, scopes=rest), make_caller(app, name="admin")
    narrowed = bearer(token_of(admin, " ".join(rest)))
    for method, path, body in (
        ("POST", "/v1/clients", {"name": "x"}),
        ("GET", "/v1/clients", None),
        ("PATCH", f"/v1/clients/{other.client_id}", {"name": "x"}),
    ):
        assert_problem(other.request(method, path, body), 403, "insufficient_scope")
        json = {} if body is None else {"json": body}
        assert_problem(call(app, method, path, narrowed, **json), 403, "insufficient_scope")
    assert sorted(each["name"] for each in admin.get("/v1/clients").get_json()["data"]) == ["admin", "caller"]


def test_a_test_key_looks_at_clients_and_changes_none(caller, make_caller):
    order = {"name": "rehearsal", "mode": "test", "scopes": list(SCOPES)}
    rehearsal = {"X-API-Key": caller.post("/v1/api-keys", order).get_json()["key"]}
    token = ask_for_token(caller.app, rehearsal["X-API-Key"]).get_json()["access_token"]
    before = caller.get("/v1/clients").get_json()
    own = f"/v1/clients/{caller.client_id}"
    for headers in (rehearsal, bearer(token), {**rehearsal, "Idempotency-Key": "one"}):
        for method, path in (("POST", "/v1/clients"), ("PATCH", own)):
            refused = call(caller.app, method, path, headers, json={"name": "x"})
            assert_problem(refused, 403, "insufficient_scope")
            assert refused.get_json()["detail"] == "A test key cannot change clients."
        assert call(caller.app, "GET", "/v1/clients", headers).get_json() == before
    # The refusal was of that key, so it is not what the Idempotency-Key stands for.
    assert caller.post("/v1/clients", {"name": "x"}, Idempotency_Key="one").status_code == 201


def test_a_default_sender_is_one_that_the_client_is_allowed_whichever_of_both_changes(caller):
    made = caller.post("/v1/clients", {"name": "one", **FIELDS}).get_json()
    path = f"/v1/clients/{made['id']}"
    for change in ({"default_sender": "House"}, {"allowed_senders": ["ACME"]}, {"allowed_senders": []}):
        refused = caller.request("PATCH", path, change)
        assert_problem(refused, 422, "validation_failed")
        assert [error["pointer"] for error in refused.get_json()["errors"]] == ["/default_sender"]
        assert caller.get("/v1/clients").get_json()["data"][0] == made
    for change in (
        {"default_sender": "24365"},
        {"default_sender": "House", "allowed_senders": ["House"]},
        {"default_sender": None, "allowed_senders": ["ACME"]},
        {"default_sender": "ACME"},
        {"default_sender": "House", "allowed_senders": None},
    ):
        changed = caller.request("PATCH", path, change)
        assert changed.status_code == 200, changed.text
        assert {name: changed.get_json()[name] for name in change} == change


def test_of_two_changes_at_once_none_locks_the_client_out_of_its_default(caller):
    path = f"/v1/clients/{caller.client_id}"
    changes = ({"default_sender": "House"}, {"allowed_senders": ["ACME"]})
    for _ in range(5):
        caller.request("PATCH", path, {"default_sender": None, "allowed_senders": None})
        answers = at_once(lambda number: caller.request("PATCH", path, changes[number]), 2)
        assert sorted(answer.status_code for answer in answers) == [200, 422]


def test_what_breaks_a_rule_is_422_and_changes_nothing(caller):
    for change, pointer in BAD_CHANGES:
        before = caller.get("/v1/clients").get_json()
        for answer in (
            caller.post("/v1/clients", {"name": "new", **change}),
            caller.request("PATCH", f"/v1/clients/{caller.client_id}", change),
        ):
            assert_problem(answer, 422, "validation_failed")
            assert pointer in [error["pointer"] for error in answer.get_json()["errors"]]
        assert caller.get("/v1/clients").get_json() == before


def test_null_in_a_change_of_what_cannot_be_empty_is_422(caller):
    # A new client takes it as if it were not given.
    for name in ("limits", "weight"):
        answer = caller.request("PATCH", f"/v1/clients/{caller.client_id}", {name: None})
        assert_problem(answer, 422, "validation_failed")
        assert [error["pointer"] for error in answer.get_json()["errors"]] == [f"/{name}"]
        assert caller.post("/v1/clients", {"name": "new", name: None}).status_code == 201


def test_a_client_needs_a_name_and_a_change_something_to_change(caller):
    assert_problem(caller.post("/v1/clients", {}), 422, "validation_failed")
    assert_problem(caller.request("PATCH", f"/v1/clients/{caller.client_id}", {}), 422, "validation_failed")


def test_a_change_touches_what_was_given_and_nothing_else(make_app, make_caller):
    clock = clock_at_present()
    app = make_app({"clock": clock})
    admin = make_caller(app)
    made = admin.post("/v1/clients", {"name": "one", **FIELDS}).get_json()
    path = f"/v1/clients/{made['id']}"
    clock.advance(10)
    changed = admin.request("PATCH", path, {"name": "zwölf 🐙"}).get_json()
    assert changed == {**made, "name": "zwölf 🐙", "updated_at": changed["updated_at"]}
    assert changed["updated_at"] > made["updated_at"]
    cleared = {"default_sender": None, "allowed_senders": None, "allowed_countries": [], "limits": {}}
    changed = admin.request("PATCH", path, cleared).get_json()
    assert {name: changed[name] for name in cleared} == cleared
    changed = admin.request("PATCH", path, {"limits": {"send": "1 per day"}}).get_json()
    assert changed["limits"] == {"send": "1 per day"}
    assert admin.get("/v1/clients").get_json()["data"][0] == changed


def test_an_unknown_client_is_404(caller):
    for shown in ("x", f"cli_{'0' * 32}", caller.key_id, "%00", "a" * 900):
        assert_problem(caller.request("PATCH", f"/v1/clients/{shown}", {"name": "x"}), 404, "not_found")


def test_a_changed_limit_holds_at_the_next_request_of_another_instance(make_app, make_caller):
    here, there = make_app(), make_app()
    admin, other = make_caller(here), make_caller(here, name="other")
    assert with_key(there, other.key).status_code == 200
    path = f"/v1/clients/{other.client_id}"
    assert admin.request("PATCH", path, {"name": "renamed", "limits": {"api": "3 per day"}}).status_code == 200
    seen = with_key(there, other.key)
    assert seen.get_json()["client_name"] == "renamed"
    assert seen.get_json()["limits"]["api"] == "3 per day"
    assert '"api";q=3;w=86400' in seen.headers["RateLimit-Policy"]
    assert [with_key(there, other.key).status_code for _ in range(3)] == [200, 200, 429]
    admin.request("PATCH", path, {"limits": {}})
    assert with_key(there, other.key).status_code == 200


def test_changed_senders_and_countries_hold_at_the_next_send_of_another_instance(make_app, make_caller, simulator):
    here, there = make_app(), make_app()
    admin, other = make_caller(here), make_caller(here, name="other")
    other.app = there
    path = f"/v1/clients/{other.client_id}"
    assert other.send().status_code == 201
    admin.request("PATCH", path, {"allowed_countries": ["DE"]})
    assert_problem(other.send(), 422, "country_not_allowed")
    admin.request("PATCH", path, {"allowed_countries": None, "allowed_senders": ["+14155550199"]})
    assert_problem(other.send(sender="+14155550100"), 422, "sender_not_allowed")
    admin.request("PATCH", path, {"default_sender": "+14155550199"})
    sent = other.send()
    assert (sent.status_code, sent.get_json()["from"]) == (201, "+14155550199")
    assert simulator.store.count() == 2


def test_clients_that_wait_together_are_sent_for_by_their_weight(make_app, make_caller, dispatching):
    lots = dict.fromkeys(("limit_send", "limit_key"), "9999 per minute")
    app = make_app({"provider": (provider := Scripted(taken()))}, dispatch_threads=1, **lots)
    light, heavy = make_caller(app), make_caller(app, name="heavy")
    for caller, to in ((light, "+14155550301"), (heavy, "+14155550303")):
        multiply(world_of(app), caller.send(text=caller.client_id, to=to, headers=ASYNC).get_json(), 23)
    assert light.request("PATCH", f"/v1/clients/{heavy.client_id}", {"weight": 3}).get_json()["weight"] == 3
    dispatching(app)
    eventually(lambda: counts_by_status(world_of(app)) == {"sent": 48})
    # While both wait; what is left of the light one's comes after.
    first = [asked.text for asked in provider.asked[:24]]
    assert 17 <= first.count(heavy.client_id) <= 19


def test_the_command_makes_a_client_with_a_weight_as_the_api_would(caller, database_url):
    def run(*words):
        return CliRunner().invoke(cli, ["clients", "create", *words], env={"SMSAPI_DATABASE_URL": database_url})

    made = [json.loads(run("x", *words, "--json").stdout) for words in ([], ["--weight", "100"])]
    assert [client["weight"] for client in made] == [1, 100]
    assert caller.get("/v1/clients").get_json()["data"][:2] == made[::-1]
    for bad in ("0", "101", "1.5", "many"):
        refused = run("x", "--weight", bad)
        assert (refused.exit_code, "--weight" in refused.stderr) == (2, True)
    assert len(caller.get("/v1/clients").get_json()["data"]) == 3


def test_pages_of_clients_miss_nothing_and_repeat_nothing_while_others_are_made(caller):
    made = [caller.client_id]
    made += [caller.post("/v1/clients", {"name": f"client {number}"}).get_json()["id"] for number in range(6)]
    seen, cursor = [], ""
    while cursor is not None:
        page = caller.get(f"/v1/clients?limit=3{cursor and f'&cursor={cursor}'}").get_json()
        seen += [each["id"] for each in page["data"]]
        cursor = page["next_cursor"]
        caller.post("/v1/clients", {"name": "in between"})
    assert seen == made[::-1]


def test_a_page_that_holds_the_last_item_says_that_nothing_follows(caller):
    for _ in range(3):
        caller.post("/v1/clients", {"name": "x"})
    assert caller.get("/v1/clients?limit=4").get_json()["next_cursor"] is None
    assert caller.get("/v1/clients?limit=3").get_json()["next_cursor"] is not None


def test_of_many_who_name_one_number_at_once_one_has_it(caller):
    def name_it(number):
        order = {"name": f"of-{number}", "default_sender": "+14155550152"}
        return caller.post("/v1/clients", order).status_code

    assert sorted(at_once(name_it, 8)) == [201] + [422] * 7
