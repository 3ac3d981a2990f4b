"""Hints between processes: who stores a message wakes one other process, by a dramatiq message over Redis or RabbitMQ.

A hint says "look at the store" and carries nothing. It may be lost, come late or come twice. At most one waits in the
broker, and for seconds only, for whoever takes it finds all that is due; without a broker the sweeps find it as well.
"""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final, cast

import dramatiq
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from smsapi.errors import SettingsInvalid
from smsapi.log import get_logger

log = get_logger()

QUEUE: Final = "smsapi-hints"
EXPIRES_SECONDS: Final = 10
# Those who ring within it share a hint.
_COALESCE_SECONDS: Final = 0.02
_TRY_AGAIN_SECONDS: Final = 1.0
_SAY_AGAIN_SECONDS: Final = 60.0
# Of a connection, and of an answer. Nobody waits for it but the thread that tells, and the end of the process.
_TIMEOUT_SECONDS: Final = 1.0
# How long Redis is asked for a hint at a time. Whole seconds: Redis 5 knows no others.
_ASK_SECONDS: Final = 1


class Hints:
    """The hints of one process, made after the fork; nothing is connected before ``start`` or ``listen``.

    ``wake`` is called at each hint, on a thread of dramatiq's. Raises SettingsInvalid where the broker is RabbitMQ and
    the extra for it is not installed.
    """

    def __init__(self, url: str, wake: Callable[[], None]) -> None:
        self._line = _Line(self.ring)
        self._rung = threading.Event()
        self._stopping = threading.Event()
        self._teller = threading.Thread(target=self._tell_for_ever, name="smsapi-hints", daemon=True)
        self._worker: dramatiq.Worker | None = None
        # Consumed by ``listen``, or by whoever else runs a dramatiq worker on it.
        self.broker = (_RedisBroker if url.startswith("redis") else _rabbitmq)(url, self._line)
        # No middleware: what fails is not retried, and what nobody takes is forgotten by the broker.
        self._actor: dramatiq.Actor[[], None] = dramatiq.Actor(
            wake, broker=self.broker, actor_name="wake", queue_name=QUEUE, priority=0, options={}
        )

    def start(self) -> None:
        """Start the thread that tells the others."""
        self._teller.start()

    def listen(self) -> None:
        """Start to hear the others."""
        self._worker = dramatiq.Worker(self.broker, worker_threads=1, worker_timeout=100)
        self._worker.start()

    def ring(self) -> None:
        """Have another process look at the store, soon; it costs the ringing thread nothing and never fails."""
        if not self._rung.is_set():
            self._rung.set()

    def stop_listening(self) -> None:
        """Leave hints to the others from now on; one that is taken all the same is passed on. Does not wait."""
        self._line.deaf.set()

    def stop(self) -> None:
        """Tell the others once more, for what this process leaves to them, and end; takes a few seconds at most."""
        self.stop_listening()
        # From here on nothing is taken, and of what was taken the last hint tells.
        if self._line.asking.acquire(timeout=_ASK_SECONDS + _TIMEOUT_SECONDS):
            self._line.asking.release()
        self._stopping.set()
        self._rung.set()
        if self._teller.is_alive():
            self._teller.join(2 * _TIMEOUT_SECONDS)
        if self._worker is not None:
            self._worker.stop(timeout=int(2000 * _TIMEOUT_SECONDS))
        self.broker.close()

    def _tell_for_ever(self) -> None:
        while not self._stopping.is_set():
            self._rung.wait()
            # Before telling: who rings while this hint is on its way may have stored after it was heard.
            self._rung.clear()
            rest = _TRY_AGAIN_SECONDS
            # The thread must live on, whatever is raised, also by what is said of it.
            with suppress(Exception):
                rest = _COALESCE_SECONDS if self._tell() else rest
            self._stopping.wait(rest)
        if self._rung.is_set():
            self._tell()

    def _tell(self) -> bool:
        try:
            self._actor.send()
        except Exception as error:  # noqa: BLE001 - whatever it is, the sweeps do without
            self._line.failed(error)
            return False
        self._line.worked()
        return True


class _Line:
    """Whether the broker is reached, said once and not at each try, and whether this process still listens."""

    def __init__(self, pass_on: Callable[[], None]) -> None:
        self.pass_on = pass_on
        self.deaf = threading.Event()
        # Held while the broker is asked.
        self.asking = threading.Lock()
        self._lock = threading.Lock()
        self._down = False
        self._said_at = float("-inf")

    def failed(self, error: Exception) -> None:
        with self._lock:
            if time.monotonic() - self._said_at < _SAY_AGAIN_SECONDS:
                return
            self._down, self._said_at = True, time.monotonic()
        # Of the error its name only: some quote the URL, which has a password in it.
        log.warning("broker_down", reason=type(error).__name__)

    def worked(self) -> None:
        if self._down:
            self._down = False
            log.info("broker_back")


class _Patient(dramatiq.Consumer):
    """A consumer that outlives its broker's absence, where dramatiq would log each of its attempts as critical."""

    def __init__(self, connect: Callable[[], dramatiq.Consumer], line: _Line) -> None:
        self._connect = connect
        self._line = line
        self._connected: dramatiq.Consumer | None = None

    def __next__(self) -> dramatiq.MessageProxy | None:
        with self._line.asking:
            heard = None if self._line.deaf.is_set() else self._ask()
        if not self._line.deaf.is_set():
            return heard
        if heard is not None:
            self.ack(heard)
            self._line.pass_on()
        # RabbitMQ would go on to hand hints to an open connection.
        self.close()
        time.sleep(_COALESCE_SECONDS)
        return None

    def _ask(self) -> dramatiq.MessageProxy | None:
        try:
            if self._connected is None:
                self._connected = self._connect()
            heard = next(self._connected)
        except Exception as error:  # noqa: BLE001 - whatever it is, the sweeps do without
            self._line.failed(error)
            self.close()
            self._line.deaf.wait(_TRY_AGAIN_SECONDS)
            return None
        self._line.worked()
        return heard

    def ack(self, message: dramatiq.MessageProxy) -> None:
        # A hint that stays unsettled comes again; dramatiq would hold its thread until this succeeds.
        if self._connected is not None:
            with suppress(Exception):
                self._connected.ack(message)

    def close(self) -> None:
        connected, self._connected = self._connected, None
        if connected is not None:
            with suppress(Exception):  # it may have been lost long since
                connected.close()


class _RedisBroker(dramatiq.Broker):
    """dramatiq on a Redis list that holds one message, and that Redis itself forgets.

    Not dramatiq's own broker for Redis: that one polls, keeps what was taken until it is settled, and finds what a
    killed worker left by ``KEYS``, all of which a hint is not worth.
    """

    def __init__(self, url: str, line: _Line) -> None:
        super().__init__(middleware=[])
        self._line = line
        # Spelled out because redis-py waits 5 s and tries up to ten times by default.
        self._client = redis.Redis(
            connection_pool=redis.ConnectionPool.from_url(
                url,
                socket_timeout=_ASK_SECONDS + _TIMEOUT_SECONDS,
                socket_connect_timeout=_TIMEOUT_SECONDS,
                retry=Retry(NoBackoff(), 0),
                retry_on_error=[],
                health_check_interval=0,
                protocol=2,
            )
        )

    def declare_queue(self, queue_name: str) -> None:
        self.queues[queue_name] = None

    def enqueue(self, message: dramatiq.Message[Any], *, delay: int | None = None) -> dramatiq.Message[Any]:
        del delay
        with self._client.pipeline() as commands:
            commands.lpush(message.queue_name, message.encode())
            commands.ltrim(message.queue_name, 0, 0)
            commands.expire(message.queue_name, EXPIRES_SECONDS)
            commands.execute()
        return message

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 1000) -> dramatiq.Consumer:
        del prefetch, timeout
        return _Patient(partial(_RedisConsumer, self._client, queue_name), self._line)

    def close(self) -> None:
        self._client.close()


class _RedisConsumer(dramatiq.Consumer):
    def __init__(self, client: redis.Redis, queue_name: str) -> None:
        self._client = client
        self._queue_name = queue_name

    def __next__(self) -> dramatiq.MessageProxy | None:
        taken = self._client.blpop([self._queue_name], timeout=_ASK_SECONDS)
        return None if taken is None else dramatiq.MessageProxy(dramatiq.Message.decode(cast(bytes, taken[1])))

    def ack(self, message: dramatiq.MessageProxy) -> None:
        """Do nothing: what was taken is gone from the list."""


def _rabbitmq(url: str, line: _Line) -> dramatiq.Broker:
    try:
        # Optional, and loaded only where it is wanted.
        from dramatiq.brokers.rabbitmq import RabbitmqBroker  # noqa: PLC0415
    except ImportError:
        raise SettingsInvalid("SMSAPI_BROKER_URL names RabbitMQ, but pika is not installed: smsapi[rabbitmq]") from None

    class _RabbitmqBroker(RabbitmqBroker):
        def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 1000) -> dramatiq.Consumer:
            return _Patient(partial(super().consume, queue_name, prefetch, timeout), line)

        def get_declared_delay_queues(self) -> set[str]:
            """Return none: no hint is delayed, and each would have a connection of its own."""
            return set()

        def _build_queue_arguments(self, _queue_name: str) -> dict[str, Any]:
            # In place of a dead-letter queue, in which what nobody takes would pile up for a week.
            return {"x-max-length": 1, "x-message-ttl": EXPIRES_SECONDS * 1000}

    # It logs each failed try with its traceback.
    logging.getLogger("pika").setLevel(logging.CRITICAL)
    broker = _RabbitmqBroker(url=[url], middleware=[])
    for parameters in broker.parameters:
        parameters.connection_attempts = 1
        parameters.socket_timeout = parameters.blocked_connection_timeout = _TIMEOUT_SECONDS
        parameters.stack_timeout = 2 * _TIMEOUT_SECONDS
    return broker
