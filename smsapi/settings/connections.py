"""Settings of what the service connects to, the stores and Plivo, and how it retries there."""

from dataclasses import dataclass

from smsapi.settings import parsers
from smsapi.settings.field import setting


@dataclass(frozen=True, kw_only=True, slots=True)
class ConnectionSettings:
    """The first part of :class:`smsapi.settings.declared.Settings`."""

    plivo_auth_id: str | None = setting(
        "PLIVO_AUTH_ID", parsers.plivo_auth_id, "Plivo's Auth ID. Needed to serve; `smsapi dev` brings its own."
    )
    plivo_auth_token: str | None = setting(
        "PLIVO_AUTH_TOKEN",
        parsers.visible_secret_of(1),
        "Plivo's Auth Token, which also signs Plivo's requests.",
        secret=True,
    )
    plivo_sender_id: str | None = setting(
        "PLIVO_SENDER_ID", parsers.sender, "The sender of messages whose client has none and that name none."
    )
    database_url: str = setting(
        "SMSAPI_DATABASE_URL",
        parsers.database_url,
        "SQLite file (one machine) or PostgreSQL.",
        default="sqlite:///smsapi.db",
        secret=True,
    )
    database_pool_size: int = setting(
        "SMSAPI_DATABASE_POOL_SIZE",
        parsers.whole_number(1, 500),
        "Database connections that one process may hold.",
        default=20,
    )
    redis_url: str | None = setting(
        "SMSAPI_REDIS_URL",
        parsers.redis_url,
        "Redis for limits that all processes share. None: each process counts for itself.",
        secret=True,
    )
    redis_timeout_seconds: float = setting(
        "SMSAPI_REDIS_TIMEOUT_SECONDS",
        parsers.seconds(0.01, 10),
        "Longest wait for Redis, to connect and to answer, before a limit is counted in the process instead.",
        default=0.2,
    )
    plivo_url: str | None = setting(
        "SMSAPI_PLIVO_URL", parsers.origin, "Where Plivo's API is, as an origin. None: Plivo's own."
    )
    public_url: str | None = setting(
        "SMSAPI_PUBLIC_URL",
        parsers.base_url,
        "Where Plivo reaches this service. None: no delivery reports are asked for, and no delivery is ever known.",
    )
    plivo_signature_tokens: tuple[str, ...] = setting(
        "SMSAPI_PLIVO_SIGNATURE_TOKENS",
        parsers.words,
        "Further Auth Tokens that may sign Plivo's requests (the main account's; an old one while it rotates).",
        default=(),
        secret=True,
    )
    plivo_accept_v2_signatures: bool = setting(
        "SMSAPI_PLIVO_ACCEPT_V2_SIGNATURES",
        parsers.boolean,
        "Accept Plivo's V2 signature, which does not cover the body, where no V3 header is present.",
        default=False,
    )
    plivo_connect_timeout_seconds: float = setting(
        "SMSAPI_PLIVO_CONNECT_TIMEOUT_SECONDS",
        parsers.seconds(0.1, 60),
        "Longest wait for a connection to Plivo.",
        default=3.0,
    )
    plivo_read_timeout_seconds: float = setting(
        "SMSAPI_PLIVO_READ_TIMEOUT_SECONDS",
        parsers.seconds(0.1, 120),
        "Longest silence of Plivo within a call.",
        default=10.0,
    )
    plivo_total_timeout_seconds: float = setting(
        "SMSAPI_PLIVO_TOTAL_TIMEOUT_SECONDS",
        parsers.seconds(0.1, 120),
        "Longest call to Plivo, all in all.",
        default=12.0,
    )
    breaker_failures: int = setting(
        "SMSAPI_BREAKER_FAILURES",
        parsers.whole_number(1, 10000),
        "Failed calls in a row, of all processes, after which Plivo is left alone by all.",
        default=5,
    )
    breaker_open_seconds: float = setting(
        "SMSAPI_BREAKER_OPEN_SECONDS",
        parsers.seconds(0.1, 3600),
        "How long Plivo is left alone before one probe.",
        default=10.0,
    )
    retry_base_seconds: float = setting(
        "SMSAPI_RETRY_BASE_SECONDS",
        parsers.seconds(0, 600),
        "First upper bound of the jittered wait between attempts.",
        default=0.5,
    )
    retry_cap_seconds: float = setting(
        "SMSAPI_RETRY_CAP_SECONDS",
        parsers.seconds(0, 3600),
        "Last upper bound of the wait between attempts.",
        default=30.0,
    )
    retry_horizon_seconds: float = setting(
        "SMSAPI_RETRY_HORIZON_SECONDS",
        parsers.seconds(0, 7 * 86400),
        "How long a message is tried while Plivo cannot be reached, before it is given up as failed.",
        default=4 * 3600.0,
    )
