"""Every setting: its name, its rule, its default and its sentence for the docs."""

from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any

from smsapi.settings import parsers


def _setting(name: str, parse: Callable[[str], Any], about: str, *, default: Any = None, secret: bool = False) -> Any:
    return field(
        repr=not secret,
        metadata={"name": name, "parse": parse, "default": default, "about": about, "secret": secret},
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Everything that can be set from outside; read once, never changed. Secrets stay out of its ``repr``."""

    plivo_auth_id: str | None = _setting(
        "PLIVO_AUTH_ID", parsers.plivo_auth_id, "Plivo's Auth ID. Needed to serve; `smsapi dev` brings its own."
    )
    plivo_auth_token: str | None = _setting(
        "PLIVO_AUTH_TOKEN",
        parsers.visible_secret_of(1),
        "Plivo's Auth Token, which also signs Plivo's requests.",
        secret=True,
    )
    plivo_sender_id: str | None = _setting(
        "PLIVO_SENDER_ID", parsers.sender, "The sender of messages whose client has none and that name none."
    )
    database_url: str = _setting(
        "SMSAPI_DATABASE_URL",
        parsers.database_url,
        "SQLite file (one machine) or PostgreSQL.",
        default="sqlite:///smsapi.db",
        secret=True,
    )
    database_pool_size: int = _setting(
        "SMSAPI_DATABASE_POOL_SIZE",
        parsers.whole_number(1, 500),
        "Database connections that one process may hold.",
        default=20,
    )
    redis_url: str | None = _setting(
        "SMSAPI_REDIS_URL",
        parsers.redis_url,
        "Redis for limits that all processes share. None: each process counts for itself.",
        secret=True,
    )
    redis_timeout_seconds: float = _setting(
        "SMSAPI_REDIS_TIMEOUT_SECONDS",
        parsers.seconds(0.01, 10),
        "Longest wait for Redis, to connect and to answer, before a limit is counted in the process instead.",
        default=0.2,
    )
    plivo_url: str | None = _setting(
        "SMSAPI_PLIVO_URL", parsers.origin, "Where Plivo's API is, as an origin. None: Plivo's own."
    )
    public_url: str | None = _setting(
        "SMSAPI_PUBLIC_URL",
        parsers.base_url,
        "Where Plivo reaches this service. None: no delivery reports are asked for.",
    )
    plivo_signature_tokens: tuple[str, ...] = _setting(
        "SMSAPI_PLIVO_SIGNATURE_TOKENS",
        parsers.words,
        "Further Auth Tokens that may sign Plivo's requests (the main account's; an old one while it rotates).",
        default=(),
        secret=True,
    )
    plivo_accept_v2_signatures: bool = _setting(
        "SMSAPI_PLIVO_ACCEPT_V2_SIGNATURES",
        parsers.boolean,
        "Accept Plivo's V2 signature, which does not cover the body, where no V3 header is present.",
        default=False,
    )
    plivo_connect_timeout_seconds: float = _setting(
        "SMSAPI_PLIVO_CONNECT_TIMEOUT_SECONDS",
        parsers.seconds(0.1, 60),
        "Longest wait for a connection to Plivo.",
        default=3.0,
    )
    plivo_read_timeout_seconds: float = _setting(
        "SMSAPI_PLIVO_READ_TIMEOUT_SECONDS",
        parsers.seconds(0.1, 120),
        "Longest silence of Plivo within a call.",
        default=10.0,
    )
    plivo_total_timeout_seconds: float = _setting(
        "SMSAPI_PLIVO_TOTAL_TIMEOUT_SECONDS",
        parsers.seconds(0.1, 120),
        "Longest call to Plivo, all in all.",
        default=12.0,
    )
    breaker_failures: int = _setting(
        "SMSAPI_BREAKER_FAILURES",
        parsers.whole_number(1, 10000),
        "Failed calls in a row, of all processes, after which Plivo is left alone by all.",
        default=5,
    )
    breaker_open_seconds: float = _setting(
        "SMSAPI_BREAKER_OPEN_SECONDS",
        parsers.seconds(0.1, 3600),
        "How long Plivo is left alone before one probe.",
        default=10.0,
    )
    retry_base_seconds: float = _setting(
        "SMSAPI_RETRY_BASE_SECONDS",
        parsers.seconds(0, 600),
        "First upper bound of the jittered wait between attempts.",
        default=0.5,
    )
    retry_cap_seconds: float = _setting(
        "SMSAPI_RETRY_CAP_SECONDS",
        parsers.seconds(0, 3600),
        "Last upper bound of the wait between attempts.",
        default=30.0,
    )
    retry_horizon_seconds: float = _setting(
        "SMSAPI_RETRY_HORIZON_SECONDS",
        parsers.seconds(0, 7 * 86400),
        "How long a message is tried while Plivo cannot be reached, before it is given up as failed.",
        default=4 * 3600.0,
    )
    batch_chunk_size: int = _setting(
        "SMSAPI_BATCH_CHUNK_SIZE",
        parsers.whole_number(1, 1000),
        "Most recipients of a batch with the same text in one call to Plivo, which takes 1,000; 1: each by itself.",
        default=200,
    )
    batch_max_rows: int = _setting(
        "SMSAPI_BATCH_MAX_ROWS",
        parsers.whole_number(1, 10_000_000),
        "Most rows of one batch.",
        default=1_000_000,
    )
    lease_seconds: float = _setting(
        "SMSAPI_LEASE_SECONDS",
        parsers.seconds(0.5, 3600),
        "How long a worker holds a message; must exceed the longest call to Plivo by a tenth.",
        default=60.0,
    )
    dispatch_threads: int = _setting(
        "SMSAPI_DISPATCH_THREADS",
        parsers.whole_number(0, 256),
        "Threads of each process that send what was queued. 0: it sends only what a caller waits for.",
        default=4,
    )
    dispatch_sweep_seconds: float = _setting(
        "SMSAPI_DISPATCH_SWEEP_SECONDS",
        parsers.seconds(0.05, 60),
        "How often a process that sends looks for what is due and nobody told it of: messages, batches, delivery "
        "reports, webhooks. It is one question to the database, and all that an idle process asks.",
        default=1.0,
    )
    broker_url: str | None = _setting(
        "SMSAPI_BROKER_URL",
        parsers.broker_url,
        "Redis (a database of its own) or RabbitMQ, by which processes on several machines wake each other. "
        "None: each looks for itself, every SMSAPI_DISPATCH_SWEEP_SECONDS.",
        secret=True,
    )
    reconcile_after_seconds: float = _setting(
        "SMSAPI_RECONCILE_AFTER_SECONDS",
        parsers.seconds(0, 86400),
        "How long delivery reports may settle a message whose outcome is unknown before Plivo's list is asked.",
        default=60.0,
    )
    receipt_after_seconds: float = _setting(
        "SMSAPI_RECEIPT_AFTER_SECONDS",
        parsers.seconds(0, 30 * 86400),
        "After how long without a final delivery report Plivo's list is asked for a message, once. 0: never.",
        default=3 * 3600.0,
    )
    plivo_list_per_minute: int = _setting(
        "SMSAPI_PLIVO_LIST_PER_MINUTE",
        parsers.whole_number(1, 100_000),
        "How often in a minute Plivo's list of messages may be asked; Plivo's own limit is the default.",
        default=20,
    )
    plivo_requests_per_5s: float = _setting(
        "SMSAPI_PLIVO_REQUESTS_PER_5S",
        parsers.rate(1_000_000),
        "Requests to Plivo within any 5 seconds, of all processes. Plivo refuses more than 300. 0: no limit of ours.",
        default=280.0,
    )
    pace_account: float | None = _setting(
        "SMSAPI_PACE_ACCOUNT",
        parsers.rate(1_000_000),
        "Segments a second of the whole account. 0: no pace. None: Plivo's 5, and no pace where SMSAPI_PLIVO_URL "
        "names another place.",
    )
    pace_long_code: float | None = _setting(
        "SMSAPI_PACE_LONG_CODE",
        parsers.rate(1_000_000),
        "Segments a second of one long-code number. 0: no pace. None: Plivo's 1, as above.",
    )
    pace_toll_free: float | None = _setting(
        "SMSAPI_PACE_TOLL_FREE",
        parsers.rate(1_000_000),
        "Segments a second of one toll-free number. 0: no pace. None: Plivo's 25, as above.",
    )
    pace_short_code: float | None = _setting(
        "SMSAPI_PACE_SHORT_CODE",
        parsers.rate(1_000_000),
        "Segments a second of one short code. 0: no pace. None: Plivo's 100, as above.",
    )
    pace_alphanumeric: float | None = _setting(
        "SMSAPI_PACE_ALPHANUMERIC",
        parsers.rate(1_000_000),
        "Segments a second of one alphanumeric sender. 0 or None: no pace but the account's: Plivo publishes none.",
    )
    queue_max_depth: int = _setting(
        "SMSAPI_QUEUE_MAX_DEPTH",
        parsers.whole_number(0, 100_000_000),
        "Due messages in one lane from which further sends but codes are refused as queue_full. 0: no bound.",
        default=500_000,
    )
    queue_max_age_seconds: float = _setting(
        "SMSAPI_QUEUE_MAX_AGE_SECONDS",
        parsers.seconds(0, 30 * 86400),
        "Age of the longest due message of a lane from which further sends but codes are refused. 0: no bound.",
        default=4 * 3600.0,
    )
    event_days: int = _setting(
        "SMSAPI_EVENT_DAYS",
        parsers.whole_number(1, 3650),
        "Days that events are kept: in GET /v1/events, in a message's history, and for webhooks.",
        default=30,
    )
    webhook_threads: int = _setting(
        "SMSAPI_WEBHOOK_THREADS",
        parsers.whole_number(1, 256),
        "Webhooks that one process which sends has out at once. Endpoints that fail or are slow share half of them.",
        default=8,
    )
    webhook_at_once: int = _setting(
        "SMSAPI_WEBHOOK_AT_ONCE",
        parsers.whole_number(1, 256),
        "Webhooks that are out to one endpoint at once, of all processes; while it fails or is slow, one.",
        default=4,
    )
    webhook_allow_networks: tuple[IPv4Network | IPv6Network, ...] = _setting(
        "SMSAPI_WEBHOOK_ALLOW_NETWORKS",
        parsers.networks,
        "Private networks that webhooks may go to, such as 10.0.0.0/8, and without TLS too. Empty: public ones alone.",
        default=(),
    )
    help_text: str | None = _setting(
        "SMSAPI_HELP_TEXT",
        parsers.text,
        "What Plivo is to text back to HELP and its like, where it does not do so by itself. None: nothing.",
    )
    account_probe_seconds: float = _setting(
        "SMSAPI_ACCOUNT_PROBE_SECONDS",
        parsers.seconds(0.1, 3600),
        "How often one message tries whether Plivo takes from the account again, while it is out of credit or locked.",
        default=10.0,
    )
    jwt_secret: str | None = _setting(
        "SMSAPI_JWT_SECRET",
        parsers.secret_of(32),
        "Signs access tokens: 32 characters or more. Needed to serve.",
        secret=True,
    )
    jwt_previous_secrets: tuple[str, ...] = _setting(
        "SMSAPI_JWT_PREVIOUS_SECRETS",
        parsers.secrets,
        "Further secrets whose tokens are taken, the last or the next one, while the signing secret rotates; "
        "separated by commas.",
        default=(),
        secret=True,
    )
    jwt_ttl_seconds: int = _setting(
        "SMSAPI_JWT_TTL_SECONDS", parsers.whole_number(10, 86400), "How long an access token lives.", default=900
    )
    idempotency_ttl_seconds: int = _setting(
        "SMSAPI_IDEMPOTENCY_TTL_SECONDS",
        parsers.whole_number(60, 30 * 86400),
        "How long an Idempotency-Key is remembered.",
        default=86400,
    )
    retention_days: int = _setting(
        "SMSAPI_RETENTION_DAYS",
        parsers.whole_number(0, 36500),
        "After how many days text, number, reference and metadata of a settled message are erased, and text and number "
        "of an inbound one. 0: never. A client may have its own.",
        default=0,
    )
    gsm7_max_units: int = _setting(
        "SMSAPI_GSM7_MAX_UNITS",
        parsers.whole_number(1, 100000),
        "Longest text in the GSM alphabet, in septets.",
        default=1600,
    )
    ucs2_max_units: int = _setting(
        "SMSAPI_UCS2_MAX_UNITS",
        parsers.whole_number(1, 100000),
        "Longest text in UCS-2, in UTF-16 code units.",
        default=737,
    )
    strict_numbers: bool = _setting(
        "SMSAPI_STRICT_NUMBERS",
        parsers.boolean,
        "Refuse numbers that are possible but not assigned by their country's plan.",
        default=False,
    )
    allowed_countries: tuple[str, ...] = _setting(
        "SMSAPI_ALLOWED_COUNTRIES",
        parsers.countries,
        "Countries that may be texted, such as US,GB. Empty: all.",
        default=(),
    )
    prices_file: Path | None = _setting(
        "SMSAPI_PRICES_FILE",
        parsers.existing_file,
        "JSON file of prices per segment and country, for estimates and max_price.",
    )
    limit_send: str = _setting(
        "SMSAPI_LIMIT_SEND",
        parsers.limit_list,
        "Sends of one client. A client may have its own.",
        default="600 per minute",
    )
    limit_key: str = _setting(
        "SMSAPI_LIMIT_KEY", parsers.limit_list, "Sends with one API key.", default="600 per minute"
    )
    limit_number: str = _setting(
        "SMSAPI_LIMIT_NUMBER",
        parsers.limit_list,
        "Sends of one client to one number.",
        default="60 per minute; 500 per hour; 2000 per day",
    )
    limit_api: str = _setting(
        "SMSAPI_LIMIT_API", parsers.limit_list, "All other requests of one client.", default="3000 per minute"
    )
    limit_login: str = _setting(
        "SMSAPI_LIMIT_LOGIN",
        parsers.limit_list,
        "Failed attempts to authenticate from one address.",
        default="20 per minute",
    )
    trusted_proxies: int = _setting(
        "SMSAPI_TRUSTED_PROXIES",
        parsers.whole_number(0, 10),
        "Proxies in front whose X-Forwarded-For is believed.",
        default=0,
    )
    bind: str = _setting(
        "SMSAPI_BIND", parsers.bind_address, "HOST:PORT that `smsapi serve` listens on.", default="127.0.0.1:8000"
    )
    workers: int = _setting("SMSAPI_WORKERS", parsers.whole_number(1, 256), "Processes of `smsapi serve`.", default=2)
    threads: int = _setting(
        "SMSAPI_THREADS",
        parsers.whole_number(1, 512),
        "Request threads of each process. Three quarters of them may wait for Plivo at once.",
        default=32,
    )
    request_read_seconds: float = _setting(
        "SMSAPI_REQUEST_READ_SECONDS",
        parsers.seconds(0.5, 600),
        "How long a request may take to arrive, headers and body, before its connection is cut off.",
        default=10.0,
    )
    graceful_seconds: int = _setting(
        "SMSAPI_GRACEFUL_SECONDS",
        parsers.whole_number(1, 600),
        "How long a stop waits for running requests and calls.",
        default=45,
    )
    metrics_token: str | None = _setting(
        "SMSAPI_METRICS_TOKEN",
        parsers.visible_secret_of(16),
        "Bearer token that /metrics asks for. None: open.",
        secret=True,
    )
    worker_metrics_bind: str | None = _setting(
        "SMSAPI_WORKER_METRICS_BIND",
        parsers.bind_address,
        "HOST:PORT at which `smsapi worker` shows the metrics of its processes, to whoever reaches it. None: nowhere.",
    )
    docs: bool = _setting("SMSAPI_DOCS", parsers.boolean, "Serve the documentation page at /docs.", default=True)
    log_level: str = _setting(
        "SMSAPI_LOG_LEVEL", parsers.one_of("debug", "info", "warning", "error"), "What is logged.", default="info"
    )
    sentry_dsn: str | None = _setting(
        "SENTRY_DSN", parsers.sentry_dsn, "Sentry, for errors, without texts or numbers.", secret=True
    )
    sentry_environment: str = _setting(
        "SENTRY_ENVIRONMENT", parsers.text, "The environment that Sentry shows.", default="production"
    )
