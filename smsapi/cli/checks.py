"""The checks of ``smsapi doctor``: each looks at one thing that sending needs, and says what to do where it fails."""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from sqlalchemy import text
from sqlalchemy.engine import make_url

from smsapi import migrations
from smsapi.cli.admin import open_database
from smsapi.cli.examination import Patient, Verdict, failed, passed, skipped
from smsapi.cli.queue_checks import check_dispatcher, check_stops, check_unknown, check_workers
from smsapi.ids import new_id, show_id
from smsapi.limits.gcra import Charge, Window
from smsapi.limits.redis import RedisStore
from smsapi.limits.store import LimitStoreDown
from smsapi.log import reason_of
from smsapi.plivo.answers import parsed_object
from smsapi.plivo.signature import V3, V3_NONCE, sign_v3

MOST_SECONDS_APART: Final = 5.0
_PATIENCE_SECONDS: Final = 5.0
# Plivo dates its answers to the second.
_DATE_STEP: Final = timedelta(seconds=1)


def _check_database(patient: Patient) -> Verdict:
    path = make_url(patient.settings.database_url).database
    on_file = patient.settings.database_url.startswith("sqlite")
    if on_file and not (path and Path(path).is_file()):
        # Opening it would make an empty one.
        return failed("the SQLite file of SMSAPI_DATABASE_URL is not there.", "Run: smsapi db upgrade")
    with open_database(current=False) as store, store.transaction() as connection:
        if store.is_postgresql and connection.execute(text("SHOW transaction_read_only")).scalar_one() == "on":
            return failed("PostgreSQL takes no writes.", "Point SMSAPI_DATABASE_URL at the primary server.")
    return passed("SQLite takes writes" if on_file else "PostgreSQL takes writes")


def _check_migrations(_patient: Patient) -> Verdict:
    with open_database(current=False) as store:
        state = migrations.schema_state(store)
    if not state.is_usable:
        is_later = state is migrations.SchemaState.NEWER
        advice = "Run that version: it is later than this one." if is_later else "Run: smsapi db upgrade"
        return failed("the schema is not that of this version.", advice)
    return passed("the schema is that of this version" if state.is_own else "this version may use the schema")


def _check_redis(patient: Patient) -> Verdict:
    settings = patient.settings
    if settings.redis_url is None:
        return skipped("SMSAPI_REDIS_URL is not set: each process counts limits for itself")
    store = RedisStore(settings.redis_url, timeout_seconds=settings.redis_timeout_seconds)
    try:
        store.peek([Charge("doctor", Window(1, 1), "doctor")])
    except LimitStoreDown as error:
        waited = f"within {settings.redis_timeout_seconds:g} s"
        advice = "Look at SMSAPI_REDIS_URL and that server; until then each process counts limits for itself."
        return failed(f"Redis does not decide a limit {waited} ({reason_of(error.__cause__ or error)}).", advice)
    finally:
        store.close()
    return passed("Redis decides limits")


def _check_broker(patient: Patient) -> Verdict:
    url = patient.settings.broker_url
    if url is None:
        return skipped("SMSAPI_BROKER_URL is not set: each process looks for work by itself")
    if not url.startswith("redis") and find_spec("pika") is None:
        return failed("RabbitMQ needs a package that is not installed.", "Run: pip install smsapi[rabbitmq]")
    try:
        (_ping_redis if url.startswith("redis") else _open_rabbitmq)(url)
    except Exception as error:  # noqa: BLE001 - each library has its own, and all mean the same
        advice = "Look at SMSAPI_BROKER_URL and that server; until then work is found by looking, only later."
        return failed(f"the broker does not answer ({reason_of(error)}).", advice)
    return passed("the broker answers")


def _ping_redis(url: str) -> None:
    seconds = _PATIENCE_SECONDS
    once = Retry(NoBackoff(), 0)
    with redis.Redis.from_url(url, socket_timeout=seconds, socket_connect_timeout=seconds, retry=once) as client:
        client.ping()


def _open_rabbitmq(url: str) -> None:
    pika = import_module("pika")
    parameters = pika.URLParameters(url)
    parameters.socket_timeout = parameters.stack_timeout = parameters.blocked_connection_timeout = _PATIENCE_SECONDS
    parameters.connection_attempts = 1
    pika.BlockingConnection(parameters).close()


def _check_database_clock(patient: Patient) -> Verdict:
    with open_database(current=False) as store, store.read() as connection:
        if not store.is_postgresql:
            return skipped("SQLite has no clock of its own")
        asked_at = patient.clock.now()
        theirs: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
        return _compare("PostgreSQL", seconds_apart(asked_at, patient.clock.now(), theirs, theirs))


def _check_plivo_clock(patient: Patient) -> Verdict:
    answered = patient.account
    if answered is None or answered.response is None:
        return skipped("needs an answer of Plivo")
    try:
        theirs = parsedate_to_datetime(answered.response.headers.get("Date", ""))
        apart = seconds_apart(answered.asked_at, answered.answered_at, theirs, theirs + _DATE_STEP)
    except (TypeError, ValueError):
        return skipped("Plivo's answer has no date")
    return _compare("Plivo", apart)


def seconds_apart(asked_at: datetime, answered_at: datetime, earliest: datetime, latest: datetime) -> float:
    """Return by how many seconds our clock is surely ahead of another; negative where it is behind.

    The other clock showed a time from ``earliest`` to ``latest`` at some moment between two of ours. 0 is what cannot
    be told apart.
    """
    if latest < asked_at:
        return (asked_at - latest).total_seconds()
    if earliest > answered_at:
        return (answered_at - earliest).total_seconds()
    return 0.0


def _compare(whose: str, apart: float) -> Verdict:
    side = "ahead of" if apart > 0 else "behind"
    said = f"this clock is {abs(apart):.1f} s {side} that of {whose}" if apart else f"this clock agrees with {whose}'s"
    if abs(apart) <= MOST_SECONDS_APART:
        return passed(said)
    return failed(
        f"{said}.", "Keep the clocks of all hosts by NTP: times to send at, tokens and look-ups at Plivo go by them."
    )


def _check_plivo(patient: Patient) -> Verdict:
    answered = patient.account
    if answered is None:
        return skipped("PLIVO_AUTH_ID is not set")
    response = answered.response
    if response is None:
        return failed(f"Plivo does not answer: {answered.reason}.", "Look at the network, and at SMSAPI_PLIVO_URL.")
    if response.status_code == HTTPStatus.UNAUTHORIZED:
        return failed("Plivo refuses the credentials.", "Check PLIVO_AUTH_ID and PLIVO_AUTH_TOKEN.")
    if response.status_code == HTTPStatus.NOT_FOUND and patient.settings.plivo_url is not None:
        return skipped("what SMSAPI_PLIVO_URL names tells nothing of an account")
    account = parsed_object(response.content)
    if response.status_code != HTTPStatus.OK or "api_id" not in account:
        said = f"the answer is not that of Plivo's API (status {response.status_code})."
        return failed(said, "Look at SMSAPI_PLIVO_URL, and at what stands between here and Plivo.")
    return _judge_credit(account)


def _judge_credit(account: Mapping[str, Any]) -> Verdict:
    # The names are those of Plivo's Account API; its SDKs' samples show the credit as a text, such as "77.39415".
    try:
        credit = Decimal(str(account.get("cash_credits")))
    except InvalidOperation:
        return passed("Plivo takes the credentials, and names no balance")
    if credit <= 0 and account.get("billing_mode") != "postpaid":
        return failed(f"the account is out of credit ({credit:.2f}).", "Top it up at Plivo.")
    return passed(f"Plivo takes the credentials; the balance is {credit:.2f}")


def _check_public_url(patient: Patient) -> Verdict:
    url = patient.settings.public_url
    if url is None:
        said = "SMSAPI_PUBLIC_URL is not set: no delivery is ever known, and no STOP is heard."
        return failed(said, "Set it to where Plivo reaches this service; without it messages stay sent for ever.")
    if not url.startswith("https:") and patient.settings.plivo_url is None:
        return failed("SMSAPI_PUBLIC_URL is not https: numbers would travel in the clear.", "Put TLS in front.")
    answered = patient.ask("GET", f"{url}/healthz")
    advice = "Let SMSAPI_PUBLIC_URL lead to this service, for Plivo as well as from here."
    if answered.response is None:
        return failed(f"{url} does not answer: {answered.reason}.", advice)
    if answered.response.status_code != HTTPStatus.OK or parsed_object(answered.response.content) != {"status": "ok"}:
        return failed(f"{url}/healthz answers {answered.response.status_code}, and not as this service.", advice)
    return passed(f"{url} leads to a service as this one")


def _check_proxies(patient: Patient) -> Verdict:
    settings = patient.settings
    if settings.trusted_proxies:
        return passed(f"X-Forwarded-For is believed of {settings.trusted_proxies} in front")
    headers = {} if settings.metrics_token is None else {"Authorization": f"Bearer {settings.metrics_token}"}
    answered = patient.ask("GET", f"{settings.public_url}/metrics", headers=headers)
    if answered.response is None or answered.response.status_code != HTTPStatus.OK:
        return skipped("the service's /metrics, which would tell, cannot be read from here")
    found = re.search(rb"^smsapi_untrusted_forwarded_total (\S+)$", answered.response.content, re.MULTILINE)
    if found is not None and float(found[1]) > 0:
        said = "requests come with X-Forwarded-For, and no proxy is trusted: all callers have one address."
        return failed(said, "Set SMSAPI_TRUSTED_PROXIES to how many stand in front.")
    return passed("no request came with X-Forwarded-For")


def _check_signature(patient: Patient) -> Verdict:
    token = patient.settings.plivo_auth_token
    if token is None:
        return skipped("PLIVO_AUTH_TOKEN is not set")
    forged, signed = _post_receipt(patient, "not-" + token), _post_receipt(patient, token)
    if forged != str(int(HTTPStatus.FORBIDDEN)):
        return failed(f"a receipt that nobody signed is answered {forged}, not 403.", "Let only this service answer.")
    if signed != str(int(HTTPStatus.OK)):
        said = f"a receipt that PLIVO_AUTH_TOKEN signed is answered {signed}."
        return failed(said, "Give the service the same token and SMSAPI_PUBLIC_URL; no proxy may change the path.")
    return passed("a signed receipt is taken, a forged one refused")


def _post_receipt(patient: Patient, token: str) -> str:
    """Post a receipt, signed with this token, about a message that there is not; return the status or what failed."""
    url = f"{patient.settings.public_url}/plivo/status/{show_id('msg', new_id())}"
    form, nonce = {"Status": "doctor"}, str(new_id().int % 10**20)
    signature = sign_v3(
        method="POST", url=url, nonce=nonce, token=token, params={name: [value] for name, value in form.items()}
    )
    answered = patient.ask("POST", url, data=form, headers={V3: signature, V3_NONCE: nonce})
    return answered.reason if answered.response is None else str(answered.response.status_code)


Check = tuple[str, Sequence[str], Callable[[Patient], Verdict]]
# By name, in this order, after what each needs to have passed.
CHECKS: Final[Sequence[Check]] = (
    ("database", (), _check_database),
    ("migrations", ("database",), _check_migrations),
    ("redis", (), _check_redis),
    ("broker", (), _check_broker),
    ("database_clock", ("database",), _check_database_clock),
    ("plivo", (), _check_plivo),
    ("plivo_clock", (), _check_plivo_clock),
    ("public_url", (), _check_public_url),
    ("proxies", ("public_url",), _check_proxies),
    ("signature", ("public_url",), _check_signature),
    ("workers", ("migrations",), check_workers),
    ("dispatcher", ("workers",), check_dispatcher),
    ("stops", ("migrations",), check_stops),
    ("unknown", ("migrations",), check_unknown),
)
