"""Delivery reports and inbound texts, as a real receiver on a real socket gets them."""

import threading
from collections import defaultdict
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from smsapi.clock import ManualClock
from smsapi.plivo.magic import behaviour_of
from smsapi.plivo.signature import is_signed_by_plivo
from smsapi.plivo.simulator import Simulator

AUTH = ("MAXXXXXXXXXXXXXXXXXX", "the-token")
NOON = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
WAIT_SECONDS = 10


class Receiver(ThreadingHTTPServer):
    """Keeps what is posted to it; ``statuses`` are the answers to come by path, then 200."""

    daemon_threads = False

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.statuses = defaultdict(list)
        self.received = []
        self.changed = threading.Condition()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def wait_for(self, count):
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.received) >= count, WAIT_SECONDS), self.received
            return list(self.received)


class _Handler(BaseHTTPRequestHandler):
    def serve(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        target = urlsplit(self.path)
        form = parse_qs(body, keep_blank_values=True)
        signed = {
            allow_v2: is_signed_by_plivo(
                method=self.command,
                url=self.server.url + self.path,
                headers=headers,
                params=form,
                tokens=[AUTH[1]],
                allow_v2=allow_v2,
            )
            for allow_v2, headers in (
                (False, dict(self.headers)),
                (True, {name: value for name, value in self.headers.items() if "V3" not in name}),
            )
        }
        fields = {name: values[0] for name, values in (form or parse_qs(target.query, keep_blank_values=True)).items()}
        with self.server.changed:
            self.server.received.append((self.command, target.path, fields, signed))
            status = self.server.statuses[target.path].pop(0) if self.server.statuses[target.path] else 200
            self.server.changed.notify_all()
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST = serve  # noqa: N815 - the names that the standard library looks for

    def log_message(self, *args):
        pass


@pytest.fixture
def receiver():
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def clock():
    return ManualClock(NOON)


@pytest.fixture
def simulator(receiver, clock):
    with Simulator(
        auth_id=AUTH[0], auth_token=AUTH[1], requests_per_5s=None, receipt_retries=(60, 120, 240), clock=clock
    ) as running:
        yield running


@pytest.fixture
def send(simulator, receiver):
    def send(dst, path="/status", **fields):
        body = {"src": "14150000000", "dst": dst, "text": "Hello", "url": receiver.url + path} | fields
        return requests.post(f"{simulator.url}/v1/Account/{AUTH[0]}/Message/", json=body, auth=AUTH, timeout=5).json()[
            "message_uuid"
        ]

    return send


def statuses(received):
    return [(fields["Status"], fields["ErrorCode"], fields["Sequence"]) for _, _, fields, _ in received]


def test_a_delivery_report_has_plivos_fields_and_both_signatures(receiver, clock, send):
    (message_uuid,) = send("+14155552000", text="я" * 71)
    clock.advance(0.1)
    receiver.wait_for(1)
    clock.advance(0.9)
    (_, _, sent, _), (method, path, delivered, signed) = receiver.wait_for(2)

    assert (method, path) == ("POST", "/status")
    assert signed == {False: True, True: True}
    assert sent["Status"] == "sent"
    assert delivered == {
        "DeliveryReportTime": "2026-05-04 12:00:01.000000",
        "ErrorCode": "",
        "From": "14150000000",
        "MCC": "310",
        "MNC": "260",
        "MessageTime": "2026-05-04 12:00:00.000000",
        "MessageUUID": message_uuid,
        "ParentMessageUUID": message_uuid,
        "PartInfo": "1 of 1",
        "PowerpackUUID": "",
        "QueuedTime": "2026-05-04 12:00:00.000000",
        "SentTime": "2026-05-04 12:00:00.000000",
        "Sequence": "2",
        "Status": "delivered",
        "To": "14155552000",
        "TotalAmount": "0.01100",
        "TotalRate": "0.00550",
        "Type": "sms",
        "Units": "2",
        "requester_ip": "127.0.0.1",
    }


def test_a_report_by_get_carries_its_fields_in_the_signed_query(receiver, clock, send):
    send("14155552000", path="/status?lane=%C3%A9#fragment", method="GET")
    clock.advance(0.1)
    ((method, path, fields, signed),) = receiver.wait_for(1)

    assert (method, path, signed) == ("GET", "/status", {False: True, True: True})
    assert (fields["lane"], fields["Status"]) == ("é", "sent")


@pytest.mark.parametrize(
    ("number", "story"),
    [
        ("14155550001", [("sent", "", "1"), ("delivered", "", "2")]),
        ("14155550002", [("sent", "", "1"), ("undelivered", "30", "2")]),
        ("14155550004", [("failed", "200", "1")]),
        ("14155550010", [("delivered", "", "2"), ("sent", "", "1"), ("delivered", "", "2"), ("sent", "", "1")]),
    ],
)
def test_each_magic_number_has_its_own_reports(receiver, clock, send, number, story):
    send(number)
    passed = 0.0
    for place, receipt in enumerate(behaviour_of(number).receipts):
        clock.advance(receipt.delay_seconds - passed)
        passed = receipt.delay_seconds
        receiver.wait_for(place + 1)
    received = receiver.wait_for(len(story))

    assert statuses(received) == story
    assert all(signed == {False: True, True: True} for *_, signed in received)


def test_a_number_without_receipts_and_a_message_without_url_have_nothing_pending(simulator, send):
    send("14155550009")
    send("14155550001", url=None)

    assert simulator.pending_callbacks == 0


def test_a_lost_answer_still_brings_its_reports(receiver, clock, send):
    with pytest.raises(requests.ConnectionError):
        send("14155550007")
    clock.advance(1)

    assert sorted(status for status, _, _ in statuses(receiver.wait_for(2))) == ["delivered", "sent"]


@pytest.mark.parametrize("refusal", [500, 404, 302])
def test_a_report_that_is_refused_comes_again_three_times(receiver, simulator, clock, send, refusal):
    receiver.statuses["/status"] = [refusal] * 4
    send("14155550004")
    clock.advance(1)
    for tries, pause in ((1, 60), (2, 120), (3, 240)):
        assert len(receiver.wait_for(tries)) == tries
        assert simulator.settle(WAIT_SECONDS)
        clock.advance(pause - 1)
        assert simulator.pending_callbacks == 1
        clock.advance(1)
    received = receiver.wait_for(4)

    assert statuses(received) == [("failed", "200", "1")] * 4
    assert {path for _, path, _, _ in received} == {"/status"}
    assert simulator.settle(WAIT_SECONDS)
    assert simulator.pending_callbacks == 0


def test_a_receiver_that_is_down_keeps_its_report_waiting_and_nobody_elses(receiver, simulator, clock, send):
    send("14155550004", url="http://127.0.0.1:1/")
    send("14155550004")
    clock.advance(1)

    assert simulator.settle(WAIT_SECONDS)

    assert len(receiver.received) == 1
    assert simulator.pending_callbacks == 1


def test_a_masked_number_is_masked_in_the_report_too(receiver, clock, send):
    send("14155552345", log="false")
    clock.advance(0.1)
    ((_, _, fields, _),) = receiver.wait_for(1)

    assert fields["To"] == "14155552***"


def test_many_numbers_in_one_call_each_get_their_own_report(receiver, clock, send):
    message_uuids = send("14155552001<14155552002<14155552003")
    clock.advance(0.1)
    received = receiver.wait_for(3)

    assert {fields["MessageUUID"] for _, _, fields, _ in received} == set(message_uuids)
    assert {fields["To"] for _, _, fields, _ in received} == {"14155552001", "14155552002", "14155552003"}


def test_with_a_scale_of_zero_everything_is_delivered_at_once(receiver):
    with Simulator(auth_id=AUTH[0], auth_token=AUTH[1], receipt_scale=0) as instant:
        body = {"src": "ACME", "dst": "14155552000", "text": "Hello", "url": receiver.url}
        messages = f"{instant.url}/v1/Account/{AUTH[0]}/Message/"
        requests.post(messages, json=body, auth=AUTH, timeout=5).raise_for_status()
        (record,) = requests.get(messages, auth=AUTH, timeout=5).json()["objects"]
        receiver.wait_for(2)

    assert record["message_state"] == "delivered"


def test_what_was_still_to_be_delivered_survives_a_restart(receiver, simulator, clock, send):
    send("14155550004")
    simulator.stop()
    clock.advance(1)
    assert simulator.pending_callbacks == 1

    simulator.start()

    assert statuses(receiver.wait_for(1)) == [("failed", "200", "1")]


@pytest.mark.parametrize(
    ("text", "intent"),
    [
        ("stop", "optout"),
        ("Stop all ", "optout"),
        ("Stop it!", ""),
        ("UNSTOP", "optin"),
        ("help", "help"),
        ("Grüße 😀", ""),
    ],
)
def test_an_inbound_text_is_posted_signed_to_the_application(receiver, simulator, text, intent):
    body = {"from": "+14155552000", "to": "+14150000000", "text": text, "url": f"{receiver.url}/plivo/inbound"}
    answer = requests.post(f"{simulator.url}/_inbound", json=body, timeout=5)
    ((method, path, fields, signed),) = receiver.wait_for(1)

    assert answer.status_code == 202
    assert (method, path, signed) == ("POST", "/plivo/inbound", {False: True, True: True})
    assert fields == {
        "From": "14155552000",
        "MessageIntent": intent,
        "MessageUUID": answer.json()["message_uuid"],
        "PowerpackUUID": "",
        "Text": text,
        "To": "14150000000",
        "TotalAmount": "0.00000",
        "TotalRate": "0.00000",
        "Type": "sms",
        "Units": "1",
    }


@pytest.mark.parametrize(
    "change",
    [{"url": "ftp://127.0.0.1/"}, {"url": None}, {"text": 1}, {"method": "PUT"}, {"url": "javascript:alert(1)"}],
)
def test_an_inbound_text_that_cannot_be_posted_is_400(simulator, change):
    body = {"from": "+14155552000", "to": "+14150000000", "text": "Hi", "url": "http://127.0.0.1:9/"} | change

    assert requests.post(f"{simulator.url}/_inbound", json=body, timeout=5).status_code == 400
    assert simulator.pending_callbacks == 0
