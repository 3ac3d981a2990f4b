"""A caller who has one batch for everybody, and uploads it again with its key until it is acknowledged."""

import http.client
import itertools
import json
import threading
import time
from collections.abc import Sequence
from typing import Self
from urllib.parse import urlsplit

from tests.chaos.callers import Ledger, orders

_TIMEOUT_SECONDS = 60.0
_AGAIN_SECONDS = 1.0
_PATH = "/v1/batches?text=Chaos"
# One row of so many is bad, and one is there for the second time.
_ODD = 500


class Uploader:
    """A thread that sees one batch of so many good rows through, at all URLs in turn, as ``Callers`` does orders."""

    def __init__(self, urls: Sequence[str], key: str, rows: int) -> None:
        self.ledger = Ledger()
        self._urls = [urlsplit(url).netloc for url in urls]
        self._headers = {"X-API-Key": key, "Content-Type": "text/csv", "Idempotency-Key": "the-batch"}
        self._orders = {order.number: order for order in itertools.islice(orders(), rows)}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> Self:
        self.ledger.asked.update(self._orders)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(2 * _TIMEOUT_SECONDS)

    def are_done(self) -> bool:
        """Say whether the batch was answered for good."""
        return not self._thread.is_alive()

    def _work(self) -> None:
        for url in itertools.cycle(self._urls):
            answer = self._post(url)
            if answer is not None and self._is_final(*answer):
                return
            if self._stopping.wait(_AGAIN_SECONDS):
                return

    def _body(self) -> bytes:
        lines = ["to"]
        for place, number in enumerate(self._orders):
            lines += [number, *([number, "+1415"] if place % _ODD == 0 else [])]
        return "\r\n".join(lines).encode()

    def _post(self, url: str) -> tuple[int, dict[str, object]] | None:
        connection = http.client.HTTPConnection(url, timeout=_TIMEOUT_SECONDS)
        try:
            connection.request("POST", _PATH, self._body(), self._headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        except (OSError, http.client.HTTPException, ValueError):
            return None
        finally:
            connection.close()

    def _is_final(self, status: int, body: dict[str, object]) -> bool:
        if status != http.client.ACCEPTED:
            # Anything else that is not of the moment leaves all of them unacknowledged.
            return status in {400, 401, 403, 413, 415, 422}
        odd = len(range(0, len(self._orders), _ODD))
        counted = [body[name] for name in ("accepted", "rejected", "duplicates")]
        if counted == [len(self._orders), odd, odd]:
            self.ledger.acknowledged = dict.fromkeys(self._orders, str(body["id"]))
            self.ledger.last_acknowledged_at = time.monotonic()
        return True
