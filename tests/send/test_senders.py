"""Who a message is from, and which countries it may go to."""

import pytest

from smsapi.auth.models import clients
from tests.support.api import LANDLINE
from tests.support.auth import change_row
from tests.support.far_side import count_rows

US, GB, CA, IN, BR = "+14155550123", "+447400123456", "+16135550123", "+919812345678", "+5511987654321"
FREEPHONE_OF_NO_COUNTRY = "+80012345678"


@pytest.fixture
def database_url(sqlite_url):
    """Decided before anything is stored."""
    return sqlite_url


OWNED = "+14155550177"


def _refused(response):
    problem = response.get_json()
    assert (response.status_code, problem["status"]) == (422, 422), problem
    assert "message_id" not in problem
    assert "Location" not in response.headers
    return problem["code"]


def test_the_clients_sender_comes_before_the_services(make_app, make_caller):
    app = make_app(plivo_sender_id=LANDLINE)
    assert make_caller(app, default_sender="ACME").send(to=GB).get_json()["from"] == "ACME"
    assert make_caller(app).send(to=GB).get_json()["from"] == LANDLINE
    both = make_caller(app, default_sender="ACME", allowed_senders=["ACME", "Other"])
    assert both.send(to=GB, sender="Other").get_json()["from"] == "Other"


def test_without_any_sender_a_message_is_refused(make_app, make_caller):
    caller = make_caller(make_app(plivo_sender_id=None), allowed_senders=[LANDLINE])
    assert _refused(caller.send(to=GB)) == "sender_not_allowed"
    assert caller.send(to=GB, sender=LANDLINE).status_code == 201


def test_a_default_that_is_no_possible_number_is_a_refusal_and_no_error_of_ours(make_app, make_caller):
    caller = make_caller(make_app(plivo_sender_id="+1415"), allowed_senders=["+1415", "ACME"])
    assert _refused(caller.send(to=GB)) == "sender_not_allowed"
    assert caller.send(to=GB, sender="ACME").status_code == 201


def test_a_client_names_only_senders_that_it_is_allowed(make_app, make_caller, simulator):
    app = make_app()
    caller = make_caller(app, allowed_senders=["ACME", "12345", "House"], default_sender="House")
    assert caller.send(to=GB, sender="ACME").status_code == 201
    assert caller.send(to=GB, sender="12345").status_code == 201
    assert caller.send(to=GB).get_json()["from"] == "House"
    assert caller.send(to=GB, sender="House").status_code == 201
    for other in ("acme", "Other", LANDLINE, "123456"):
        assert _refused(caller.send(to=GB, sender=other)) == "sender_not_allowed"
    nobody = make_caller(app, allowed_senders=[])
    assert _refused(nobody.send(to=GB, sender="ACME")) == "sender_not_allowed"
    # The default of the whole service is not the client's.
    assert _refused(nobody.send(to=GB)) == "sender_not_allowed"
    assert simulator.store.count() == count_rows(app.extensions["smsapi"].database, "messages") == 4


def test_a_default_sender_is_no_way_around_the_senders_that_are_allowed(make_app, make_caller, simulator):
    app = make_app(plivo_sender_id=LANDLINE)
    caller = make_caller(app, default_sender="House")
    # As somebody with the database before them might: the API refuses to.
    change_row(app, clients.c.allowed_senders, caller.client_id, ["ACME"])
    assert _refused(caller.send(to=GB)) == "sender_not_allowed"
    assert _refused(caller.send(to=GB, sender="House")) == "sender_not_allowed"
    assert _refused(make_caller(app, allowed_senders=["ACME"]).send(to=GB)) == "sender_not_allowed"
    assert simulator.store.count() == 0
    assert caller.send(to=GB, sender="ACME").status_code == 201


def test_a_sender_has_to_fit_the_country(make_app, make_caller):
    several = ["ACME", "ACMEIN", "12345", "123456", "+16135550100", "+18005550100", LANDLINE]
    caller = make_caller(make_app(), mode="test", allowed_senders=several)
    for sender, to, fits in (
        ("ACME", US, False),
        ("ACME", CA, False),
        ("ACME", BR, False),
        ("ACME", GB, True),
        ("ACME", IN, False),
        ("ACMEIN", IN, True),
        ("12345", IN, False),
        ("123456", IN, True),
        ("12345", US, True),
        ("+16135550100", US, False),
        ("+16135550100", CA, True),
        ("+18005550100", US, True),
        (LANDLINE, CA, True),
        ("ACME", FREEPHONE_OF_NO_COUNTRY, True),
    ):
        answer = caller.send(to=to, sender=sender)
        if fits:
            assert answer.status_code == 201, (sender, to)
        else:
            assert _refused(answer) == "sender_not_allowed", (sender, to)


def test_the_country_rule_holds_for_a_default_sender_too(make_app, make_caller):
    app = make_app(plivo_sender_id="ACME")
    assert _refused(make_caller(app).send(to=US)) == "sender_not_allowed"
    assert _refused(make_caller(app, default_sender="Other").send(to=CA)) == "sender_not_allowed"


def test_a_number_does_not_text_itself(make_app, make_caller):
    assert _refused(make_caller(make_app()).send(to=LANDLINE)) == "sender_not_allowed"


def test_the_service_and_the_client_both_have_a_say_in_countries(make_app, make_caller, simulator):
    app = make_app(allowed_countries=("US", "GB"))
    anywhere, british = make_caller(app, mode="live"), make_caller(app, allowed_countries=["GB", "FR"])
    assert anywhere.send(to=US).status_code == 201
    assert british.send(to=GB).status_code == 201
    assert _refused(british.send(to=US)) == "country_not_allowed"
    assert _refused(british.send(to="+33612345678")) == "country_not_allowed"
    assert _refused(anywhere.send(to=IN)) == "country_not_allowed"
    assert _refused(anywhere.send(to=FREEPHONE_OF_NO_COUNTRY)) == "country_not_allowed"
    nowhere = make_caller(app, allowed_countries=[])
    assert _refused(nowhere.send(to=US)) == "country_not_allowed"
    assert simulator.store.count() == 2


def test_strict_numbers_have_to_be_in_use(make_app, make_caller):
    unassigned = "+14155550123"
    strict = make_caller(make_app(strict_numbers=True))
    answer = strict.send(to="+12005550123")
    assert answer.status_code == 422
    assert [each["pointer"] for each in answer.get_json()["errors"]] == ["/to"]
    preview = strict.post("/v1/messages/preview", {"to": "+12005550123", "text": "x"})
    assert preview.get_json()["code"] == "validation_failed"
    assert make_caller(make_app()).send(to=unassigned).status_code == 201


def test_without_a_list_a_client_has_its_default_sender_alone_and_a_preview_says_so(make_app, make_caller, simulator):
    app = make_app(plivo_sender_id=LANDLINE)
    owner = make_caller(app, default_sender=OWNED)
    stranger, own = make_caller(app), make_caller(app, default_sender="ACME")
    for caller, sender in ((stranger, OWNED), (stranger, "ACME"), (own, LANDLINE), (own, OWNED), (owner, LANDLINE)):
        assert _refused(caller.send(to=GB, sender=sender)) == "sender_not_allowed"
        preview = caller.post("/v1/messages/preview", {"to": GB, "text": "Hi", "from": sender}).get_json()
        assert [refusal["code"] for refusal in preview["refusals"]] == ["sender_not_allowed"]
        batch = caller.post("/v1/batches", {"text": "Hi", "from": sender, "recipients": [{"to": GB}]})
        assert batch.get_json()["code"] == "sender_not_allowed"
    assert simulator.store.count() == 0
    assert [caller.send(to=GB).get_json()["from"] for caller in (owner, stranger, own)] == [OWNED, LANDLINE, "ACME"]
    assert stranger.send(to=GB, sender=LANDLINE).status_code == 201


def test_a_number_that_one_client_names_is_another_s_where_an_admin_lists_it(make_app, make_caller):
    app = make_app()
    owner = make_caller(app, default_sender=OWNED)
    admin = make_caller(app)
    refused = admin.post("/v1/clients", {"name": "b", "default_sender": OWNED})
    assert [error["pointer"] for error in refused.get_json()["errors"]] == ["/default_sender"]
    shared = admin.post("/v1/clients", {"name": "b", "default_sender": OWNED, "allowed_senders": [OWNED]})
    assert shared.status_code == 201
    other = admin.post("/v1/clients", {"name": "c"}).get_json()
    changed = admin.request("PATCH", f"/v1/clients/{other['id']}", {"default_sender": OWNED})
    assert changed.status_code == 422
    # Nobody answers to a name, and what is one's own stays.
    for name in ("d", "e"):
        assert admin.post("/v1/clients", {"name": name, "default_sender": "ACME"}).status_code == 201
    kept = admin.request("PATCH", f"/v1/clients/{owner.client_id}", {"name": "renamed"})
    assert kept.status_code == 200
