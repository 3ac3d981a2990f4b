"""A simulated Plivo as a process of its own, ``python -m benchmarks.simulator HOST:PORT``.

The same as ``smsapi simulator``, which takes seconds to start, since it loads the whole service first.
"""

import http.client
import json
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from benchmarks.processes import BenchmarkError, Process, serving
from smsapi.plivo.simulator import Simulator, serve_forever

AUTH_ID, AUTH_TOKEN, SENDER = "MABENCHBENCHBENCH000", "not-used", "+12025550199"
ANSWER_SECONDS = 0.05
_PATIENCE_SECONDS = 30


@dataclass(frozen=True)
class Plivo:
    """The simulated Plivo at ``url``."""

    url: str
    process: Process

    def taken(self) -> int:
        """Return the number of texts taken since the start, or since ``forget``. Raises BenchmarkError."""
        return int(self._call("GET", "/_taken?count")["count"])

    def forget(self) -> None:
        """Reset the number of texts taken."""
        self._call("DELETE", "/_taken")

    def _call(self, method: str, path: str) -> Any:
        request = urllib.request.Request(f"{self.url}{path}", method=method)
        try:
            with urllib.request.urlopen(request, timeout=_PATIENCE_SECONDS) as answer:
                return json.load(answer)
        except (OSError, http.client.HTTPException) as error:
            self.process.check()
            raise BenchmarkError(f"the simulated Plivo does not answer: {error}") from error


@contextmanager
def simulated_plivo() -> Iterator[Plivo]:
    """Run a Plivo for the block that answers each call after 50 ms, reports nothing, and limits no rate."""
    with serving(
        "the simulated Plivo", lambda address: [sys.executable, "-m", "benchmarks.simulator", address]
    ) as server:
        yield Plivo(server.url, server.process)


def main(address: str) -> None:
    """Serve until SIGTERM."""
    host, _, port = address.rpartition(":")
    playing = Simulator(
        host=host,
        port=int(port),
        auth_id=AUTH_ID,
        auth_token=AUTH_TOKEN,
        requests_per_5s=None,
        answer_delay_seconds=ANSWER_SECONDS,
    )
    serve_forever(playing)


if __name__ == "__main__":
    main(sys.argv[1])
