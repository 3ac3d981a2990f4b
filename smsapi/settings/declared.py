"""Every setting: its name, its rule, its default and its sentence for the docs."""

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

from smsapi.settings import parsers
from smsapi.settings.connections import ConnectionSettings
from smsapi.settings.field import setting


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings(ConnectionSettings):
    """Everything that can be set from outside; read once, never changed. Secrets stay out of its ``repr``."""

    batch_chunk_size: int = setting(
        "SMSAPI_BATCH_CHUNK_SIZE",
        parsers.whole_number(1, 1000),
        "Most recipients of a batch with the same text in one call to Plivo, which takes 1,000; 1: each by itself.",
        default=200,
    )
    batch_max_rows: int = setting(
        "SMSAPI_BATCH_MAX_ROWS", parsers.whole_number(1, 10_000_000), "Most rows of one batch.", default=1_000_000
    )
    batch_max_waiting_rows: int = setting(
        "SMSAPI_BATCH_MAX_WAITING_ROWS",
        parsers.whole_number(1, 100_000_000),
        "Most rows of one client's batches that are stored and not yet being sent; more are refused as rate_limited.",
        default=2_000_000,
    )
    lease_seconds: float = setting(
        "SMSAPI_LEASE_SECONDS",
        parsers.seconds(0.5, 3600),
        "How long a worker holds a message; must exceed the longest call to Plivo by a tenth.",
        default=60.0,
    )
    dispatch_threads: int = setting(
        "SMSAPI_DISPATCH_THREADS",
        parsers.whole_number(0, 256),
        "Threads of each process that send what was queued. 0: it sends only what a caller waits for.",
        default=4,
    )
    dispatch_sweep_seconds: float = setting(
        "SMSAPI_DISPATCH_SWEEP_SECONDS",
        parsers.seconds(0.05, 60),
        "How often a process that sends looks for what is due and nobody told it of: messages, batches, delivery "
        "reports, webhooks. It is one question to the database; beside it an idle process only writes its heartbeat.",
        default=1.0,
    )
    broker_url: str | None = setting(
        "SMSAPI_BROKER_URL",
        parsers.broker_url,
        "Redis (a database of its own) or RabbitMQ, by which processes on several machines wake each other. "
        "None: each looks for itself, every SMSAPI_DISPATCH_SWEEP_SECONDS.",
        secret=True,
    )
    reconcile_after_seconds: float = setting(
        "SMSAPI_RECONCILE_AFTER_SECONDS",
        parsers.seconds(0, 86400),
        "How long delivery reports may settle a message whose outcome is unknown before Plivo's list is asked.",
        default=60.0,
    )
    reconcile_give_up_seconds: float = setting(
        "SMSAPI_RECONCILE_GIVE_UP_SECONDS",
        parsers.seconds(0, 30 * 86400),
        "How long a message of unknown outcome is looked for while Plivo's list cannot be used; then a person decides.",
        default=86400.0,
    )
    receipt_after_seconds: float = setting(
        "SMSAPI_RECEIPT_AFTER_SECONDS",
        parsers.seconds(0, 30 * 86400),
        "After how long without a final report Plivo's list is asked, once. 0, or without SMSAPI_PUBLIC_URL: never.",
        default=3 * 3600.0,
    )
    receipt_give_up_seconds: float = setting(
        "SMSAPI_RECEIPT_GIVE_UP_SECONDS",
        parsers.seconds(0, 30 * 86400),
        "How long after that a message waits for a list that can be asked; then it stays sent, and an event says so.",
        default=86400.0,
    )
    plivo_list_per_minute: int = setting(
        "SMSAPI_PLIVO_LIST_PER_MINUTE",
        parsers.whole_number(1, 100_000),
        "How often in a minute Plivo's list of messages may be asked; Plivo's own limit is the default.",
        default=20,
    )
    plivo_requests_per_5s: float = setting(
        "SMSAPI_PLIVO_REQUESTS_PER_5S",
        parsers.rate(1_000_000),
        "Requests to Plivo within any 5 seconds, of all processes. Plivo refuses more than 300. 0: no limit of ours.",
        default=280.0,
    )
    pace_account: float | None = setting(
        "SMSAPI_PACE_ACCOUNT",
        parsers.rate(1_000_000),
        "Segments a second of the whole account. 0: no pace. None: Plivo's 5, and no pace where SMSAPI_PLIVO_URL "
        "names another place.",
    )
    pace_long_code: float | None = setting(
        "SMSAPI_PACE_LONG_CODE",
        parsers.rate(1_000_000),
        "Segments a second of one long-code number. 0: no pace. None: Plivo's 1, as above.",
    )
    pace_toll_free: float | None = setting(
        "SMSAPI_PACE_TOLL_FREE",
        parsers.rate(1_000_000),
        "Segments a second of one toll-free number. 0: no pace. None: Plivo's 25, as above.",
    )
    pace_short_code: float | None = setting(
        "SMSAPI_PACE_SHORT_CODE",
        parsers.rate(1_000_000),
        "Segments a second of one short code. 0: no pace. None: Plivo's 100, as above.",
    )
    pace_alphanumeric: float | None = setting(
        "SMSAPI_PACE_ALPHANUMERIC",
        parsers.rate(1_000_000),
        "Segments a second of one alphanumeric sender. 0 or None: no pace but the account's: Plivo publishes none.",
    )
    queue_max_depth: int = setting(
        "SMSAPI_QUEUE_MAX_DEPTH",
        parsers.whole_number(0, 100_000_000),
        "Due messages in one lane from which further sends but codes are refused as queue_full. 0: no bound.",
        default=500_000,
    )
    queue_max_age_seconds: float = setting(
        "SMSAPI_QUEUE_MAX_AGE_SECONDS",
        parsers.seconds(0, 30 * 86400),
        "Age of the longest due message of a lane from which further sends but codes are refused. 0: no bound.",
        default=4 * 3600.0,
    )
    event_days: int = setting(
        "SMSAPI_EVENT_DAYS",
        parsers.whole_number(1, 3650),
        "Days that events are kept: in GET /v1/events, in a message's history, and for webhooks.",
        default=30,
    )
    webhook_threads: int = setting(
        "SMSAPI_WEBHOOK_THREADS",
        parsers.whole_number(1, 256),
        "Webhooks that one process which sends has out at once. Endpoints that fail or are slow share half of them.",
        default=8,
    )
    webhook_at_once: int = setting(
        "SMSAPI_WEBHOOK_AT_ONCE",
        parsers.whole_number(1, 256),
        "Webhooks that are out to one endpoint at once, of all processes; while it fails or is slow, one.",
        default=4,
    )
    webhook_allow_networks: tuple[IPv4Network | IPv6Network, ...] = setting(
        "SMSAPI_WEBHOOK_ALLOW_NETWORKS",
        parsers.networks,
        "Private networks that webhooks may go to, such as 10.0.0.0/8, and without TLS too. Empty: public ones alone.",
        default=(),
    )
    webhook_ports: tuple[tuple[int, int], ...] = setting(
        "SMSAPI_WEBHOOK_PORTS",
        parsers.port_ranges,
        "Ports that webhooks may go to.",
        default=((443, 443), (80, 80), (8000, 9999)),
    )
    help_text: str | None = setting(
        "SMSAPI_HELP_TEXT",
        parsers.text,
        "What Plivo is to text back to HELP and its like, where it does not do so by itself. None: nothing.",
    )
    account_probe_seconds: float = setting(
        "SMSAPI_ACCOUNT_PROBE_SECONDS",
        parsers.seconds(0.1, 3600),
        "How often one message tries whether Plivo takes from the account again, while it is out of credit or locked.",
        default=10.0,
    )
    jwt_secret: str | None = setting(
        "SMSAPI_JWT_SECRET",
        parsers.secret_of(32),
        "Signs access tokens: 32 characters or more. Needed to serve.",
        secret=True,
    )
    jwt_previous_secrets: tuple[str, ...] = setting(
        "SMSAPI_JWT_PREVIOUS_SECRETS",
        parsers.secrets,
        "Further secrets whose tokens are taken, the last or the next one, while the signing secret rotates; "
        "separated by commas.",
        default=(),
        secret=True,
    )
    jwt_ttl_seconds: int = setting(
        "SMSAPI_JWT_TTL_SECONDS", parsers.whole_number(10, 86400), "How long an access token lives.", default=900
    )
    idempotency_ttl_seconds: int = setting(
        "SMSAPI_IDEMPOTENCY_TTL_SECONDS",
        parsers.whole_number(60, 30 * 86400),
        "How long an Idempotency-Key is remembered.",
        default=86400,
    )
    retention_days: int = setting(
        "SMSAPI_RETENTION_DAYS",
        parsers.whole_number(0, 36500),
        "After how many days text, number, reference and metadata of a settled message are erased, and text and number "
        "of an inbound one. 0: never. A client may have its own.",
        default=90,
    )
    gsm7_max_units: int = setting(
        "SMSAPI_GSM7_MAX_UNITS",
        parsers.whole_number(1, 100000),
        "Longest text in the GSM alphabet, in septets.",
        default=1600,
    )
    ucs2_max_units: int = setting(
        "SMSAPI_UCS2_MAX_UNITS",
        parsers.whole_number(1, 100000),
        "Longest text in UCS-2, in UTF-16 code units.",
        default=737,
    )
    strict_numbers: bool = setting(
        "SMSAPI_STRICT_NUMBERS",
        parsers.boolean,
        "Refuse numbers that are possible but not assigned by their country's plan.",
        default=False,
    )
    allowed_countries: tuple[str, ...] = setting(
        "SMSAPI_ALLOWED_COUNTRIES",
        parsers.countries,
        "Countries that may be texted, such as US,GB. Empty: all.",
        default=(),
    )
    prices_file: Path | None = setting(
        "SMSAPI_PRICES_FILE",
        parsers.existing_file,
        "JSON file of prices per segment and country, for estimates and max_price.",
    )
    limit_send: str = setting(
        "SMSAPI_LIMIT_SEND",
        parsers.limit_list,
        "Sends of one client. A limit is a bucket that is refilled evenly: of `600 per minute` 600 may come at once, "
        "and then ten a second. A client may have its own.",
        default="600 per minute",
    )
    limit_key: str = setting(
        "SMSAPI_LIMIT_KEY", parsers.limit_list, "Sends with one API key.", default="600 per minute"
    )
    limit_number: str = setting(
        "SMSAPI_LIMIT_NUMBER",
        parsers.limit_list,
        "Sends of one client to one number.",
        default="60 per minute; 500 per hour; 2000 per day",
    )
    limit_api: str = setting(
        "SMSAPI_LIMIT_API", parsers.limit_list, "All other requests of one client.", default="3000 per minute"
    )
    limit_login: str = setting(
        "SMSAPI_LIMIT_LOGIN",
        parsers.limit_list,
        "Failed attempts to authenticate from one address.",
        default="20 per minute",
    )
    trusted_proxies: int = setting(
        "SMSAPI_TRUSTED_PROXIES",
        parsers.whole_number(0, 10),
        "Proxies in front whose X-Forwarded-For is believed.",
        default=0,
    )
    bind: str = setting(
        "SMSAPI_BIND", parsers.bind_address, "HOST:PORT that `smsapi serve` listens on.", default="127.0.0.1:8000"
    )
    workers: int = setting("SMSAPI_WORKERS", parsers.whole_number(1, 256), "Processes of `smsapi serve`.", default=2)
    threads: int = setting(
        "SMSAPI_THREADS",
        parsers.whole_number(1, 512),
        "Request threads of each process. Three quarters of them may wait for Plivo at once.",
        default=32,
    )
    request_read_seconds: float = setting(
        "SMSAPI_REQUEST_READ_SECONDS",
        parsers.seconds(0.5, 600),
        "How long a request may take to arrive, and its answer to be read, before its connection is cut off.",
        default=10.0,
    )
    upload_seconds: float = setting(
        "SMSAPI_UPLOAD_SECONDS", parsers.seconds(1, 86400), "How long the upload of a batch may take.", default=900.0
    )
    graceful_seconds: int = setting(
        "SMSAPI_GRACEFUL_SECONDS",
        parsers.whole_number(1, 600),
        "How long a stop waits for running requests and calls.",
        default=45,
    )
    metrics_token: str | None = setting(
        "SMSAPI_METRICS_TOKEN",
        parsers.visible_secret_of(16),
        "Bearer token that /metrics asks for. None: open.",
        secret=True,
    )
    worker_metrics_bind: str | None = setting(
        "SMSAPI_WORKER_METRICS_BIND",
        parsers.bind_address,
        "HOST:PORT at which `smsapi worker` shows the metrics of its processes, to whoever reaches it. None: nowhere.",
    )
    docs: bool = setting("SMSAPI_DOCS", parsers.boolean, "Serve the documentation page at /docs.", default=True)
    log_level: str = setting(
        "SMSAPI_LOG_LEVEL", parsers.one_of("debug", "info", "warning", "error"), "What is logged.", default="info"
    )
    sentry_dsn: str | None = setting(
        "SENTRY_DSN", parsers.sentry_dsn, "Sentry, for errors, without texts or numbers.", secret=True
    )
    sentry_environment: str = setting(
        "SENTRY_ENVIRONMENT", parsers.text, "The environment that Sentry shows.", default="production"
    )
