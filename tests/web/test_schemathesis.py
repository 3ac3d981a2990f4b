"""Requests made up from the specification, good and bad, over a real socket; each answer held against it."""

from collections import defaultdict
from copy import deepcopy
from datetime import UTC, datetime, timedelta

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.core.failures import FailureGroup

from tests.conftest import eventually
from tests.support.contract import spec
from tests.support.examples import many

# Left out: positive_data_acceptance, for a schema cannot say what is a number in its country, a cursor, or a key.
CHECKED = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "missing_required_header",
    "unsupported_method",
    "allow_header_conformance",
    "ignored_auth",
)
PLENTY = "1000000 per minute"
# Granted by chance only. Without a signature, a right key, a key to spare, a message in doubt, or a URL, there is
# nothing to be had here; and a batch has its fields in the query of a file or in JSON without any, never in both.
NEVER_GRANTED = {
    *("take_receipt", "take_receipt_of_query", "take_inbound", "take_inbound_of_query", "create_token", "revoke_key"),
    *("take_joined_receipt", "take_joined_receipt_of_query", "create_batch"),
    *("resolve_message", "create_webhook_endpoint", "delete_webhook_endpoint"),
    *("get_inbound_message", "import_opt_outs", "get_opt_out", "delete_opt_out"),
}


@pytest.fixture
def database_url(sqlite_url):
    """What is asked here is the edge; the stores have suites of their own."""
    return sqlite_url


@pytest.fixture
def service(live):
    """The whole service, with limits that hide nothing and a Plivo that is not waited for long."""
    return live(
        **{f"limit_{name}": PLENTY for name in ("send", "key", "number", "api", "login")},
        plivo_read_timeout_seconds=0.2,
        plivo_total_timeout_seconds=0.3,
        breaker_failures=10000,
    )


@pytest.fixture
def real_ids(service):
    """Ids that exist, so that made-up requests get past the look-up too."""
    # One that waits for its time may still be changed and called off.
    soon = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    service.send(to="+14155550001")
    spare = {"name": "spare", "mode": "test", "scopes": ["messages:read"]}
    endpoint = {"url": "https://receiver.invalid/hooks", "events": ["webhook.test"]}
    batch = {"text": "Hello", "recipients": [{"to": "+14155550001"}], "send_at": soon}
    listed = eventually(lambda: service.request("GET", "/v1/events").json()["data"])
    return {
        "endpoint_id": service.request("POST", "/v1/webhook-endpoints", json=endpoint).json()["id"],
        "event_id": listed[0]["id"],
        "batch_id": service.request("POST", "/v1/batches", json=batch).json()["id"],
        "message_id": service.send(to="+14155550001", send_at=soon).json()["id"],
        # Another than the caller's, which would soon be one that may send nothing.
        "client_id": service.request("POST", "/v1/clients", json={"name": "spare"}).json()["id"],
        "number": "+14155550155",
        "key_id": service.request("POST", "/v1/api-keys", json=spare).json()["id"],
    }


class Fuzz:
    """Calls one service with made-up requests and keeps what was wrong with the answers."""

    def __init__(self, service, real_ids):
        self.service = service
        self.real_ids = real_ids
        load_all_checks()
        self.checks = CHECKS.get_by_names(CHECKED)
        self.statuses = defaultdict(set)
        self.calls = 0
        self.wrong = {}

    def run(self, operation, mode, examples):
        @settings(
            max_examples=many(examples),
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(operation.as_strategy(generation_mode=mode))
        def ask(case):
            self.call(case)
            if mode is GenerationMode.POSITIVE and isinstance(case.body, dict) and "to" in case.body:
                # A number by the pattern is hardly ever one by its country's plan.
                case.body = {**case.body, "to": "+14155550001", "from": "+14155550100"}
                self.call(case)
            known = {name: self.real_ids[name] for name in case.path_parameters if name in self.real_ids}
            if known and case.method != "DELETE" and mode is GenerationMode.POSITIVE:
                case.path_parameters.update(known)
                self.call(case)

        try:
            ask()
        except Unsatisfiable:
            # Where nothing is asked for, nothing can be wrong.
            assert mode is GenerationMode.NEGATIVE
            assert not operation.body
            assert not operation.query

    def call(self, case):
        if case.headers is not None:
            # Ours is the one credential; two of them are refused.
            case.headers.pop("Authorization", None)
        answer = case.call(base_url=self.service.url, headers={"X-API-Key": self.service.key})
        if answer.status_code == 414:
            return  # a query that is longer than is read never gets as far as the operation
        self.calls += 1
        self.statuses[case.operation.definition.raw["operationId"]].add(answer.status_code)
        try:
            case.validate_response(answer, checks=self.checks)
        except FailureGroup as group:
            for failure in group.exceptions:
                self.wrong.setdefault((case.operation.label, type(failure).__name__), str(failure)[:2000])


@pytest.mark.parametrize(
    ("mode", "examples", "calls"),
    [(GenerationMode.POSITIVE, 4, 160), (GenerationMode.NEGATIVE, 2, 60)],
    ids=["good", "bad"],
)
def test_made_up_requests_are_answered_as_the_specification_says(service, real_ids, mode, examples, calls):
    fuzz = Fuzz(service, real_ids)
    document = deepcopy(spec())
    # Made-up texts of the full length take a second each to make, and say no more than shorter ones.
    for name in ("Order", "MessagePatch", "BatchOrder"):
        document["components"]["schemas"][name]["properties"]["text"]["maxLength"] = 500
    schema = schemathesis.openapi.from_dict(document)
    for found in schema.get_all_operations():
        fuzz.run(found.ok(), mode, examples)
    assert not fuzz.wrong, "\n\n".join(f"{label} {kind}: {said}" for (label, kind), said in fuzz.wrong.items())
    assert fuzz.calls > calls
    if mode is GenerationMode.POSITIVE:
        # Otherwise the requests were never good enough to test anything but the refusals.
        poor = {name for name, statuses in fuzz.statuses.items() if min(statuses) >= 300}
        assert poor <= NEVER_GRANTED
        assert fuzz.statuses.keys() >= NEVER_GRANTED
