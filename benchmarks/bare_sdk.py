"""Yardstick of sending: Plivo's own SDK in a bare loop, ``python -m benchmarks.bare_sdk PLIVO_URL THREADS``."""

import os
import sys
import threading
import traceback
from typing import Any

import plivo
import requests
from requests.adapters import HTTPAdapter

from benchmarks.simulator import AUTH_ID, AUTH_TOKEN, SENDER

_PLIVO = "https://api.plivo.com"


class _Elsewhere(HTTPAdapter):
    """Redirects requests to another origin than Plivo's, for which the SDK has no option."""

    def __init__(self, origin: str) -> None:
        self._origin = origin
        super().__init__()

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        request.url = (request.url or "").replace(_PLIVO, self._origin)
        return super().send(request, *args, **kwargs)


def _call_for_ever(url: str) -> None:
    client = plivo.RestClient(AUTH_ID, AUTH_TOKEN)
    client.session.mount(_PLIVO, _Elsewhere(url))
    try:
        while True:
            client.messages.create(src=SENDER[1:], dst="14155550123", text="Your code is 123456")
    except Exception:  # noqa: BLE001 - otherwise the other threads go on, and their rate is taken for that of all
        traceback.print_exc()
        os._exit(1)


def main(url: str, threads: int) -> None:
    """Send from so many threads until killed: one client each, since it promises no thread safety."""
    calling = [threading.Thread(target=_call_for_ever, args=(url,)) for _ in range(threads)]
    for thread in calling:
        thread.start()
    for thread in calling:
        thread.join()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
