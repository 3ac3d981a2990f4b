"""The simulator as one thing to start and stop."""

from collections.abc import Callable, Sequence
from threading import Event
from typing import Self

from smsapi.clock import Clock, SystemClock
from smsapi.plivo.simulator.admin import Admin
from smsapi.plivo.simulator.api import MessageApi
from smsapi.plivo.simulator.callbacks import Callbacks
from smsapi.plivo.simulator.faults import Faults
from smsapi.plivo.simulator.state import Store
from smsapi.plivo.simulator.wire import Reply, Request, WireServer
from smsapi.stopping import stop_signals

PLIVO_RETRIES_SECONDS = (60, 120, 240)


class Simulator:
    """Plivo on a local address. ``url`` is the origin to point a client at; ``/v1/Account/…`` follows.

    The limits are Plivo's own by default; None is no limit. ``receipt_scale`` multiplies the delays of delivery reports
    (0 is at once), ``receipt_retries`` are the seconds between the tries of one that is not answered 2xx.
    ``answer_delay_seconds`` passes between taking a message and answering. ``hang_seconds`` bounds an answer that never
    comes. The clock dates messages and decides what is due; delays and hangs take real time, and end when it stops.

    Stopping keeps what was taken and what is still to be delivered: started again, it goes on at the same address.
    """

    def __init__(
        self,
        *,
        auth_id: str,
        auth_token: str,
        host: str = "127.0.0.1",
        port: int = 0,
        requests_per_5s: int | None = 300,
        lists_per_minute: int | None = 20,
        answer_delay_seconds: float = 0.0,
        receipt_scale: float = 1.0,
        receipt_retries: Sequence[float] = PLIVO_RETRIES_SECONDS,
        hang_seconds: float = 30.0,
        clock: Clock | None = None,
    ) -> None:
        clock = SystemClock() if clock is None else clock
        self.store = Store()
        self.faults = Faults()
        self._host = host
        self._port = port
        self._wire: WireServer | None = None
        self._stopping = Event()
        self._callbacks = Callbacks(token=auth_token, retries=receipt_retries, clock=clock)
        self._admin = Admin(store=self.store, faults=self.faults, callbacks=self._callbacks, clock=clock)
        self._api = MessageApi(
            auth_id=auth_id,
            auth_token=auth_token,
            store=self.store,
            faults=self.faults,
            callbacks=self._callbacks,
            requests_per_5s=requests_per_5s,
            lists_per_minute=lists_per_minute,
            answer_delay_seconds=answer_delay_seconds,
            receipt_scale=receipt_scale,
            hang_seconds=hang_seconds,
            clock=clock,
            wait=self._wait,
        )

    @property
    def url(self) -> str:
        """Return the origin, such as ``http://127.0.0.1:8099``; with port 0 it is known once started."""
        return f"http://{self._host}:{self._port}"

    @property
    def pending_callbacks(self) -> int:
        """Return how many callbacks are still to be delivered."""
        return self._callbacks.pending

    def settle(self, timeout_seconds: float) -> bool:
        """Wait until every callback that is due by now was tried, and say whether it came to that in time.

        One that was refused waits for its next try, and one that is not due yet for its time.
        """
        return self._callbacks.settle(timeout_seconds)

    def start(self) -> None:
        """Listen, answer and deliver, in threads of its own; requests are answered from when this returns.

        Raises RuntimeError when it is running, OSError when the address cannot be bound.
        """
        if self._wire is not None:
            raise RuntimeError("The simulator is running already.")
        self._stopping.clear()
        wire = WireServer((self._host, self._port), self._answer)
        self._port = wire.server_address[1]
        self._wire = wire
        self._callbacks.start()
        wire.start()

    def stop(self) -> None:
        """End every thread and close every socket; a second call does nothing."""
        if self._wire is None:
            return
        self._stopping.set()
        self._wire.close()
        self._wire = None
        self._callbacks.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _answer(self, request: Request) -> Reply | None:
        if request.path.startswith("/_"):
            return self._admin.answer(request)
        return self._api.answer(request)

    def _wait(self, seconds: float) -> None:
        self._stopping.wait(seconds)


def serve_forever(simulator: Simulator, on_ready: Callable[[str], None] | None = None) -> None:
    """Run the simulator until SIGTERM or SIGINT, then stop it and put the old signal handlers back.

    ``on_ready`` is told the URL once requests are answered. Must run in the main thread (ValueError otherwise).
    Raises OSError when the address cannot be bound.
    """
    with stop_signals() as wait, simulator:
        if on_ready is not None:
            on_ready(simulator.url)
        wait()
