"""The parts of the specification that no route and no schema says: headers, examples, ids, and who may do without."""

from collections.abc import Mapping
from typing import Any

from smsapi.sms.phone import E164
from smsapi.sms.text import INVISIBLE, WHITE_SPACE
from smsapi.web.problems import PROBLEMS

DESCRIPTION = """\
Send SMS through Plivo: nothing lost, nothing twice, nothing that surprises the bill.

- **Login**: `X-API-Key`, or `Authorization: Bearer` with a token from `POST /v1/auth/token`. Never both.
- **Errors** are `application/problem+json` (RFC 9457). `code` is stable; `GET /problems/{code}` says what to do.
  Any path may also answer 404 `not_found`, 405 `method_not_allowed` with `Allow`, 414 `uri_too_long` and
  431 `headers_too_large`.
- **Unknown fields** and unknown query parameters are refused with 422, never ignored.
- **Repeating** a POST that creates or sends is safe for 24 hours with an `Idempotency-Key`: the first answer is given
  again, with `Idempotent-Replayed: true`.
- **Lists** are newest first; `next_cursor` goes into `cursor`, and null is the end.
- **Times** are RFC 3339 in UTC. **Ids** are a prefix and 32 hexadecimal digits.
- **X-Request-Id** is in every answer: the caller's own where it is 1 to 128 visible ASCII characters.
- **Test keys** (`smsk_test_…`) never reach Plivo: messages are simulated and marked `test`."""

TAGS: Mapping[str, str] = {
    "send": "Sending a message, asking first what would become of it, and calling it off or changing it.",
    "messages": "Reading what became of each message.",
    "batches": "Up to a million recipients in one call: how a batch stands, what of it was refused, calling it off.",
    "auth": "Tokens, API keys, clients, and what holds for the caller.",
    "webhooks": "Being told of what happens, by signed POSTs (Standard Webhooks) or by reading the list of events.",
    "privacy": "Erasing what tells who was texted what, at once or after a time.",
    "receipts": "What Plivo calls. Not for callers of this API.",
    "optouts": "Who does not want to be texted, since when, and how that is known.",
    "inbound": "What people texted to our numbers.",
    "service": "The service itself: health, metrics, this specification, and what each problem means.",
}

SECURITY_SCHEMES: Mapping[str, dict[str, str]] = {
    "apiKey": {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
        "description": "An API key, `smsk_live_…` or `smsk_test_…`. The scopes listed are what it must have.",
    },
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "A token from `POST /v1/auth/token`. The scopes listed are what it must have.",
    },
    "basic": {
        "type": "http",
        "scheme": "basic",
        "description": "The key's id and its secret, for the client-credentials form only (RFC 6749 section 2.3.1).",
    },
    "metricsToken": {
        "type": "http",
        "scheme": "bearer",
        "description": "`SMSAPI_METRICS_TOKEN`, where it is set.",
    },
    "plivoSignature": {
        "type": "apiKey",
        "in": "header",
        "name": "X-Plivo-Signature-V3",
        "description": "Plivo's signature over the public URL, the form, and `X-Plivo-Signature-V3-Nonce`.",
    },
}

# The operations whose credential is not a caller's; {} is none at all.
OWN_SECURITY: Mapping[str, list[dict[str, list[str]]]] = {
    "create_token": [{}, {"basic": []}],
    "get_metrics": [{}, {"metricsToken": []}],
    "take_receipt": [{"plivoSignature": []}],
    "take_receipt_of_query": [{"plivoSignature": []}],
    "take_inbound": [{"plivoSignature": []}],
    "take_inbound_of_query": [{"plivoSignature": []}],
}


def _header(description: str, schema: dict[str, Any], *, required: bool = False) -> dict[str, Any]:
    return {"description": description, **({"required": True} if required else {}), "schema": schema}


HEADERS: Mapping[str, dict[str, Any]] = {
    "X-Request-Id": _header(
        "Names this request in logs and in problems.",
        {"type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[!-~]+$"},
        required=True,
    ),
    "RateLimit-Policy": _header(
        "The limits of this request, each a bucket of `q` units that is refilled evenly in `w` seconds: a full one may "
        "be spent at once, and after that one unit every `w` / `q` seconds.",
        {"type": "string", "examples": ['"send";q=600;w=60, "key";q=600;w=60']},
    ),
    "RateLimit": _header(
        "Where they stand: `r` units remain, and have to last `t` seconds.",
        {"type": "string", "examples": ['"send";r=599;t=60, "key";r=599;t=60']},
    ),
    "Retry-After": _header("Seconds to wait before the next try.", {"type": "string", "pattern": "^[1-9][0-9]*$"}),
    "Allow": _header(
        "The methods that the path takes.", {"type": "string", "examples": ["GET, HEAD, OPTIONS"]}, required=True
    ),
    "WWW-Authenticate": _header("How to authenticate.", {"type": "string"}, required=True),
    "Location": _header(
        "Where the message, or the batch, is.",
        {"type": "string", "format": "uri-reference", "pattern": "^/v1/(messages/msg|batches/bat)_[0-9a-f]{32}$"},
        required=True,
    ),
    "Preference-Applied": _header(
        "The part of `Prefer` that was honoured.",
        {"type": "string", "pattern": "^(respond-async|wait=[0-9]{1,2})$"},
    ),
    "Idempotent-Replayed": _header(
        "The answer to an earlier request with this Idempotency-Key, given again.", {"type": "string", "const": "true"}
    ),
}

# Two quotes around nothing are no key.
_KEY = r'^(?!""$)("[!-~]{1,255}"|[!-~]{1,255})$'
# Without an example: the page at /docs would send it with every request that is tried, and the second would be refused.
IDEMPOTENCY_KEY: Mapping[str, Any] = {
    "in": "header",
    "name": "Idempotency-Key",
    "required": False,
    "description": (
        "Makes repeating the request safe: 1 to 255 visible ASCII characters, bare or in double quotes. "
        "Another request needs another one."
    ),
    "schema": {"type": "string", "minLength": 1, "maxLength": 257, "pattern": _KEY},
}

_HEX = "019a6f3c2b7d7c4e8f10a2b3c4d5e6f7"


def _id(prefix: str, what: str) -> dict[str, Any]:
    return {
        "description": f"The id of the {what}.",
        "schema": {"type": "string", "pattern": f"^{prefix}_[0-9a-f]{{32}}$"},
        "example": f"{prefix}_{_HEX}",
    }


PATH_PARAMETERS: Mapping[str, dict[str, Any]] = {
    "message_id": _id("msg", "message"),
    "batch_id": _id("bat", "batch"),
    "chunk_id": _id("chk", "call that several messages shared"),
    "key_id": _id("key", "API key"),
    "client_id": _id("cli", "client"),
    "inbound_id": _id("inb", "inbound message"),
    "number": {
        "description": "The number, in E.164; its plus sign may be written %2B.",
        "schema": {"type": "string", "pattern": f"^{E164.pattern}$"},
        "example": "+14155550123",
    },
    "endpoint_id": _id("whe", "webhook endpoint"),
    "event_id": _id("evt", "event"),
    "code": {
        "description": "The `code` of a problem.",
        "schema": {"type": "string", "enum": sorted(PROBLEMS)},
        "example": "validation_failed",
    },
    "name": {"description": "The name of the asset.", "schema": {"type": "string"}, "example": "start.js"},
}

_ID_PATTERNS = {name: f"^{name}_[0-9a-f]{{32}}$" for name in ("msg", "bat", "key", "cli", "evt", "whe")}
_NUMBER = f"^{E164.pattern}$"
_SENDER = rf"^({E164.pattern}|[0-9]{{3,8}}|(?=[0-9]*[A-Za-z])[A-Za-z0-9]{{1,11}})$"
_SENDERS: Mapping[str, dict[str, Any]] = {
    "default_sender": {"pattern": _SENDER},
    "allowed_senders": {"items": {"type": "string", "pattern": _SENDER}},
}
# No control characters but the line ends, and one that can be seen. Those beyond U+FFFF that cannot are left out here:
# not every reader of patterns knows them.
_CONTROL = r"\u0000-\u0009\u000b\u000c\u000e-\u001f\u007f-\u009f"
_UNSEEN = "".join(each if each == "-" else f"\\u{ord(each):04x}" for each in WHITE_SPACE + INVISIBLE)
_ORDER: Mapping[str, dict[str, Any]] = {
    "to": {"pattern": _NUMBER, "examples": ["+14155550123"]},
    "from": {"pattern": _SENDER},
    "text": {"pattern": f"^[^{_CONTROL}]*[^{_CONTROL}{_UNSEEN}][^{_CONTROL}]*$"},
    "reference": {"examples": ["order-4711"]},
}
# What a property holds to that Marshmallow cannot tell, for the rule is a function: by schema, then by property.
PROPERTIES: Mapping[str, Mapping[str, dict[str, Any]]] = {
    "Order": _ORDER,
    "MessagePatch": _ORDER,
    "BatchOrder": {name: _ORDER[name] for name in ("from", "text")},
    "Message": {
        "id": {"pattern": _ID_PATTERNS["msg"]},
        "client_id": {"pattern": _ID_PATTERNS["cli"]},
        # Empty once it is redacted.
        "to": {"pattern": rf"^({E164.pattern})?$"},
    },
    "Batch": {"id": {"pattern": _ID_PATTERNS["bat"]}, "client_id": {"pattern": _ID_PATTERNS["cli"]}},
    "Event": {"id": {"pattern": _ID_PATTERNS["evt"]}},
    "ToldEvent": {"id": {"pattern": _ID_PATTERNS["evt"]}},
    "Endpoint": {"id": {"pattern": _ID_PATTERNS["whe"]}},
    "Key": {"id": {"pattern": _ID_PATTERNS["key"]}, "client_id": {"pattern": _ID_PATTERNS["cli"]}},
    "NewKey": {"id": {"pattern": _ID_PATTERNS["key"]}, "client_id": {"pattern": _ID_PATTERNS["cli"]}},
    "ClientOrder": _SENDERS,
    "ClientPatch": _SENDERS,
    "Client": {"id": {"pattern": _ID_PATTERNS["cli"]}},
    "Whoami": {"client_id": {"pattern": _ID_PATTERNS["cli"]}, "key_id": {"pattern": _ID_PATTERNS["key"]}},
}

# The same of what stands in a query: by operation, then by parameter.
QUERY_PROPERTIES: Mapping[str, Mapping[str, dict[str, Any]]] = {
    "create_batch": {name: _ORDER[name] for name in ("from", "text")},
}

REQUEST_EXAMPLES: Mapping[str, Mapping[str, dict[str, Any]]] = {
    "create_message": {
        "shortest": {"summary": "A recipient and a text", "value": {"to": "+14155550123", "text": "Hello"}},
        "guarded": {
            "summary": "With limits of its own, and a reference",
            "value": {
                "to": "+14155550123",
                "text": "Your parcel is here. Code 4711",
                "from": "+14155550100",
                "expires_in": 3600,
                "max_segments": 2,
                "max_price": "0.05",
                "reference": "order-4711",
                "metadata": {"shop": "berlin"},
            },
        },
    },
    "create_batch": {
        "variables": {
            "summary": "Each recipient with a text of its own",
            "value": {
                "text": "Hi {{name}}, your parcel is here.",
                "recipients": [
                    {"to": "+14155550123", "vars": {"name": "Ada"}, "reference": "order-4711"},
                    {"to": "+14155550124", "vars": {"name": "Bob"}},
                ],
            },
        }
    },
    "preview_message": {
        "unicode": {"summary": "One character can double the price", "value": {"to": "+14155550123", "text": "Hello ☺"}}
    },
    "update_message": {
        "later": {
            "summary": "Another time, and another text",
            "value": {"send_at": "2030-01-01T09:00:00Z", "text": "Hi"},
        }
    },
    "resolve_message": {
        "again": {"summary": "Send it again, whether Plivo took it or not", "value": {"outcome": "resend"}}
    },
    "create_token": {
        "narrowed": {
            "summary": "A token for fewer scopes than the key has",
            "value": {"api_key": "smsk_live_…", "scope": "messages:send"},
        }
    },
    "create_key": {
        "sender": {
            "summary": "A key that may send and read",
            "value": {"name": "billing", "mode": "live", "scopes": ["messages:send", "messages:read"]},
        }
    },
    "create_client": {
        "limited": {
            "summary": "A client that may text two countries",
            "value": {
                "name": "billing",
                "default_sender": "+14155550100",
                "allowed_countries": ["US", "GB"],
                "limits": {"send": "600 per minute; 10000 per day"},
            },
        }
    },
}

# What an answer means where the operation's summary does not say it.
ANSWERS: Mapping[tuple[str, int], str] = {
    ("create_message", 201): "Plivo took the message.",
    ("create_message", 202): "The message is stored durably, and goes on without the caller.",
    ("create_batch", 200): "The rows were checked (`dry_run`); nothing is sent.",
    ("create_batch", 202): "The batch is stored durably; its messages leave in the background.",
    ("cancel_message", 200): "The message will not be sent.",
    ("cancel_batch", 200): "Nothing more of the batch is begun.",
    ("get_readiness", 503): "Something is down; `down` names it.",
    ("revoke_token", 200): "The token does not work, whatever it was.",
    ("revoke_key", 204): "The key and its tokens stopped working.",
    ("take_inbound", 200): "The text was taken, now or before.",
    ("take_inbound_of_query", 200): "The text was taken, now or before.",
    ("delete_opt_out", 204): "The number may be texted again, as far as the client's own entries go.",
    ("take_receipt", 200): "The report was taken, or was not needed.",
}

_TEXT = {"type": "string"}
_POINTED = {
    "type": "object",
    "required": ["pointer", "message"],
    "additionalProperties": False,
    "properties": {
        "pointer": {"type": "string", "description": "RFC 6901; empty for the body as a whole.", "examples": ["/to"]},
        "message": _TEXT,
    },
}
PROBLEM_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "description": "A problem (RFC 9457).",
    "required": ["type", "title", "status", "detail", "code", "request_id"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference", "description": "The page about this code."},
        "title": _TEXT,
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string", "description": "This occurrence, in a sentence. Never parse it: use code."},
        "code": {"type": "string", "enum": sorted(PROBLEMS)},
        "error": {"type": "string", "description": "On the token endpoint: the error of RFC 6749 section 5.2."},
        "request_id": {"type": "string", "maxLength": 128},
        "message_id": {"type": "string", "description": "The message that Plivo refused; it stays readable."},
        "batch_id": {"type": "string", "description": "With `batch_rejected`: the batch, whose rejects can be read."},
        "opted_out_at": {
            "type": "string",
            "format": "date-time",
            "description": "With `recipient_opted_out`: since when.",
        },
        "errors": {"type": "array", "description": "With `validation_failed`: each broken rule.", "items": _POINTED},
    },
}


def problem_example(code: str) -> dict[str, Any]:
    """Return what a problem of this code looks like."""
    problem = PROBLEMS[code]
    value: dict[str, Any] = {
        "type": f"/problems/{code}",
        "title": problem.title,
        "status": problem.status,
        "detail": problem.advice,
        "code": code,
        "request_id": _HEX,
    }
    if code == "validation_failed":
        value |= {
            "detail": "One or more fields are missing or invalid; see errors.",
            "errors": [{"pointer": "/to", "message": "Missing data for required field."}],
        }
    return {"summary": problem.title, "value": value}
