"""A client that was generated from openapi.yaml calls every operation that speaks JSON, over a real socket."""

import importlib
import inspect
import subprocess
import sys
import typing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.contract import spec

_DOCUMENT = Path(__file__).parents[1] / "openapi.yaml"
# For browsers, for those who measure, and for Plivo, which signs its requests; the rest takes or gives a file only.
_NOT_FOR_CLIENTS = {
    *("get_docs", "get_docs_asset", "get_metrics", "get_openapi_yaml", "export_opt_outs", "import_opt_outs"),
    *("take_receipt", "take_receipt_of_query", "take_joined_receipt", "take_joined_receipt_of_query"),
    *("take_inbound", "take_inbound_of_query"),
}


@pytest.fixture(scope="session")
def generated(tmp_path_factory: pytest.TempPathFactory):
    """The package, made of the document as it is committed."""
    directory = tmp_path_factory.mktemp("generated")
    (directory / "config.yaml").write_text("post_hooks: []\n")
    options = (
        "--path",
        _DOCUMENT,
        "--config",
        directory / "config.yaml",
        "--output-path",
        directory / "generated_smsapi",
    )
    command = [sys.executable, "-m", "openapi_python_client", "generate", "--meta", "none", *options]
    made = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert made.returncode == 0, made.stdout
    sys.path.insert(0, str(directory))
    yield importlib.import_module("generated_smsapi")
    sys.path.remove(str(directory))


class Generated:
    """Calls operations by their names, with bodies as plain values, and remembers which."""

    def __init__(self, package: ModuleType, url: str, key: str) -> None:
        self.called: set[str] = set()
        self._package = package.__name__
        self._tags = {
            operation["operationId"]: operation["tags"][0]
            for methods in spec()["paths"].values()
            for operation in methods.values()
        }
        client = importlib.import_module(f"{self._package}.client")
        self._client = client.AuthenticatedClient(
            base_url=url, token=key, auth_header_name="X-API-Key", prefix="", raise_on_unexpected_status=True
        )

    def __call__(self, name, *arguments, expect=None, **values):
        """Return what the answer was read as; its code where a problem is expected."""
        module = importlib.import_module(f"{self._package}.api.{self._tags[name]}.{name}")
        if "body" in values:
            values["body"] = _model_of(module).from_dict(values["body"])
        answer = module.sync_detailed(*arguments, client=self._client, **values)
        self.called.add(name)
        if expect is not None:
            assert (answer.status_code, answer.parsed.code) == expect, (name, answer)
            return None
        assert answer.status_code < 300, (name, answer)
        assert answer.status_code == 204 or answer.parsed is not None, (name, answer)
        return answer.parsed


def _model_of(module):
    """Return the class of an operation's JSON body."""
    annotation = inspect.signature(module.sync_detailed).parameters["body"].annotation
    kinds = typing.get_args(annotation) or (annotation,)
    return next(kind for kind in kinds if hasattr(kind, "from_dict"))


def operations():
    """Return the operations that take or give JSON, or nothing."""
    found = {op["operationId"] for methods in spec()["paths"].values() for op in methods.values()}
    return found - _NOT_FOR_CLIENTS


def use_messages(call):
    sent = call("create_message", body={"to": "+14155550123", "text": "Hello"})
    assert call("get_message", sent.id).to == "+14155550123"
    assert call("list_messages").data
    assert call("list_events", sent.id).data
    assert call("preview_message", body={"to": "+14155550123", "text": "Hello"}).would_send
    later = datetime.now(UTC) + timedelta(days=1)
    planned = call("create_message", body={"to": "+14155550124", "text": "Hello", "send_at": later.isoformat()})
    assert call("update_message", planned.id, body={"text": "Hi"}).text == "Hi"
    assert call("cancel_message", planned.id).status == "canceled"
    assert call("redact_message", planned.id).id == planned.id
    call("resolve_message", planned.id, body={"outcome": "sent"}, expect=(409, "not_unknown"))


def use_batches(call):
    body = {"text": "Hi {{name}}", "recipients": [{"to": "+14155550125", "vars": {"name": "Ada"}}, {"to": "x"}]}
    made = call("create_batch", body=body, idempotency_key="batch-1")
    assert (made.accepted, made.rejected) == (1, 1)
    assert call("create_batch", body=body, idempotency_key="batch-1").id == made.id
    assert call("get_batch", made.id).id == made.id
    assert call("list_batches").data[0].id == made.id
    assert call("list_batch_messages", made.id).data[0].text == "Hi Ada"
    assert call("list_batch_rejects", made.id).data[0].row == 2
    assert call("create_batch", body={**body, "dry_run": True}).dry_run
    planned = {**body, "send_at": (datetime.now(UTC) + timedelta(days=1)).isoformat()}
    assert call("cancel_batch", call("create_batch", body=planned).id).status == "canceled"


def use_opt_outs(call):
    assert call("put_opt_out", "+14155550199", body={"reason": "asked"}).number == "+14155550199"
    assert call("get_opt_out", "+14155550199").entries
    assert call("list_opt_outs").data
    assert call("list_opt_out_history", "+14155550199").data
    call("delete_opt_out", "+14155550199", body={})
    assert call("list_inbound_messages").data == []
    call("get_inbound_message", "inb_" + "0" * 32, expect=(404, "not_found"))


def use_webhooks(call):
    made = call("create_webhook_endpoint", body={"url": "https://93.184.215.14/hook", "events": ["message.sent"]})
    assert call("get_webhook_endpoint", made.id).url == made.url
    assert call("list_webhook_endpoints").data
    assert call("update_webhook_endpoint", made.id, body={"description": "ours"}).description == "ours"
    assert call("rotate_webhook_secret", made.id, body={}).secret
    call("test_webhook_endpoint", made.id)
    assert call("list_webhook_attempts", made.id).data is not None
    call("recover_webhook_endpoint", made.id, body={"since": datetime.now(UTC).isoformat()})
    event = call("list_client_events").data[0]
    call("resend_webhook_event", made.id, event.id)
    call("delete_webhook_endpoint", made.id)


def use_keys(call, key):
    assert call("get_whoami").client_id
    assert call("get_limits") is not None
    minted = call("create_token", body={"api_key": key})
    call("revoke_token", body={"token": minted.access_token})
    made = call("create_key", body={"name": "second", "mode": "test", "scopes": ["messages:send"]})
    assert call("list_keys").data
    call("rotate_key", made.id, body={})
    call("revoke_key", made.id)
    client = call("create_client", body={"name": "another"})
    assert call("list_clients").data
    assert call("update_client", client.id, body={"name": "renamed"}).name == "renamed"


def test_every_operation_in_json_can_be_called_by_a_generated_client(generated, live):
    remote = live()
    call = Generated(generated, remote.url, remote.key)
    use_messages(call)
    use_batches(call)
    use_opt_outs(call)
    use_webhooks(call)
    use_keys(call, remote.key)
    assert call("get_health") is not None
    assert call("get_readiness") is not None
    assert call("get_problem", "not_found") is not None
    assert call("get_openapi_json") is not None
    assert call.called == operations()


@pytest.fixture
def database_url(sqlite_url):
    """One store: what is tried is the document."""
    return sqlite_url
