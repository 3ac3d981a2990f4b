"""The one table from a domain error's code to HTTP (RFC 9457), and its rendering; no Flask here."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from smsapi.errors import InvalidInput, RecipientOptedOut, SmsapiError
from smsapi.web.answers import PROBLEM, Answer, to_json


@dataclass(frozen=True, slots=True)
class Problem:
    """One kind of problem: its status, its title, and what a caller should do about it."""

    status: int
    title: str
    advice: str


PROBLEMS: Mapping[str, Problem] = {
    "malformed_request": Problem(
        400,
        "The request cannot be read",
        "Send one JSON object in UTF-8, without duplicate keys, NaN, Infinity or lone surrogates. Do not retry as is.",
    ),
    "idempotency_key_invalid": Problem(
        400, "The Idempotency-Key is not valid", "Use 1 to 255 visible ASCII characters, bare or in double quotes."
    ),
    "invalid_scope": Problem(
        400, "The key lacks a scope that was asked for", "Ask for scopes that the key has, or leave scope out."
    ),
    "invalid_request": Problem(
        400,
        "The token request is incomplete",
        "Send JSON with api_key, or the client-credentials form with HTTP Basic: the key's id and its secret.",
    ),
    "unsupported_grant_type": Problem(400, "The grant type is not supported", "Use grant_type=client_credentials."),
    "unauthenticated": Problem(
        401,
        "No valid credential",
        "Send X-API-Key, or Authorization: Bearer with a token from POST /v1/auth/token. "
        "Get a fresh token when it has expired; ask for a new key when it was revoked. Do not retry as is.",
    ),
    "insufficient_scope": Problem(
        403, "The credential lacks the scope", "Use a key or a token with the scope that detail names."
    ),
    "signature_invalid": Problem(
        403,
        "The request is not signed by Plivo",
        "Only Plivo calls this. Where it is Plivo: SMSAPI_PUBLIC_URL must be the exact origin that Plivo calls, and "
        "the Auth Token the one of the account that owns the number (SMSAPI_PLIVO_SIGNATURE_TOKENS takes more).",
    ),
    "not_found": Problem(
        404, "There is no such thing", "Check the id or the path. Other clients' things are not found."
    ),
    "method_not_allowed": Problem(405, "The method is not allowed here", "Use one of the methods of the Allow header."),
    "idempotency_in_progress": Problem(
        409,
        "The first request with this Idempotency-Key is still running",
        "Wait for Retry-After seconds and send the same request with the same key again.",
    ),
    "too_late": Problem(
        409,
        "The message no longer waits",
        "detail says how it stands. What is on its way cannot be called back or changed. Do not retry as is.",
    ),
    "too_early": Problem(
        409,
        "The message is not settled yet",
        "detail says how it stands. Cancel it, or try again once it is sent or settled otherwise.",
    ),
    "not_unknown": Problem(
        409,
        "The outcome of the message is not in doubt",
        "Only a message whose status is unknown can be resolved; detail says how it stands. Do not retry as is.",
    ),
    "too_many_endpoints": Problem(
        409, "The client has too many webhook endpoints", "Delete one that is of no use, or change one."
    ),
    "events_expired": Problem(
        410,
        "The event to go on after is not kept any more",
        "Read from the beginning, without after, and compare with what you have: events may be missing between the "
        "two. Do not retry as is.",
    ),
    "body_incomplete": Problem(
        408,
        "The body broke off before its end",
        "Nothing of it was taken. Send it again, with the same Idempotency-Key.",
    ),
    "body_too_large": Problem(
        413,
        "The body is too large",
        "Send at most 1 MiB; 64 MiB and SMSAPI_BATCH_MAX_ROWS rows for a batch, 16 KiB for a token, 64 KiB from Plivo.",
    ),
    "uri_too_long": Problem(414, "The URL is too long", "Shorten the query."),
    "unsupported_media_type": Problem(
        415, "The body is of another type than this takes", "Send Content-Type: application/json, in UTF-8."
    ),
    "validation_failed": Problem(
        422, "A field is missing or invalid", "Mend the fields that errors names, by JSON pointer. Do not retry as is."
    ),
    "idempotency_key_reused": Problem(
        422, "The Idempotency-Key was used with another body", "Use a fresh key for each different request."
    ),
    "sender_not_allowed": Problem(
        422,
        "The sender is not allowed",
        "Use a sender that the client is allowed and that the country takes (detail says which), or set a default.",
    ),
    "country_not_allowed": Problem(
        422, "The country is not allowed", "Ask whoever runs this service to allow the country for your client."
    ),
    "text_too_long": Problem(
        422,
        "The text is too long",
        "Shorten it, or split it. One character outside GSM-7 halves the room: see preview.",
    ),
    "too_many_segments": Problem(
        422, "The text needs more segments than max_segments", "Shorten the text, try smart_encoding, or allow more."
    ),
    "price_too_high": Problem(
        422, "The price limit cannot be kept", "Shorten the text or allow more; see preview for the price."
    ),
    "recipient_opted_out": Problem(
        422,
        "The recipient has opted out",
        "Do not text this number: opted_out_at says since when it does not want it, GET /v1/opt-outs/{number} by which "
        "entry. The recipient opts in again by texting START to the sender.",
    ),
    "batch_rejected": Problem(
        422,
        "A row of an all-or-nothing batch cannot be sent",
        "Nothing of the batch was sent. Mend the rows that GET /v1/batches/{batch_id}/rejects names and send it again "
        "with a fresh Idempotency-Key, or leave out all_or_nothing. Do not retry as is.",
    ),
    "rejected_by_provider": Problem(
        422,
        "Plivo refused the message",
        "Plivo will refuse the same message again; detail has its reason. On a trial account, the number must first "
        "be verified as a sandbox number. The message stays readable as failed.",
    ),
    "rate_limited": Problem(
        429, "A rate limit is spent", "Wait for Retry-After seconds. RateLimit and RateLimit-Policy say what is left."
    ),
    "too_many_failed_logins": Problem(
        429, "Too many failed attempts from this address", "Wait for Retry-After seconds, then use a valid credential."
    ),
    "headers_too_large": Problem(431, "The headers are too large", "Send fewer or shorter headers."),
    "internal_error": Problem(
        500,
        "Something broke on our side",
        "Retry with the same Idempotency-Key. Report the request_id if it stays.",
    ),
    "provider_account": Problem(
        502,
        "Plivo refused because of our account",
        "Not your doing: whoever runs this service has to look at Plivo's credentials, balance, features or geo "
        "permissions. The message stays readable as failed; send it again, with a fresh Idempotency-Key, "
        "once that is mended.",
    ),
    "unavailable": Problem(
        503, "Something we need is down", "Retry after Retry-After seconds with the same Idempotency-Key."
    ),
    "store_unavailable": Problem(
        503, "The database does not answer", "Retry after Retry-After seconds with the same Idempotency-Key."
    ),
    "queue_full": Problem(
        503,
        "Too much waits to be sent",
        "Nothing was taken. Retry after Retry-After seconds with the same Idempotency-Key; codes (category otp) are "
        "taken all the same.",
    ),
    "limiter_unavailable": Problem(
        503, "Logins cannot be counted at the moment", "Retry after Retry-After seconds, or use X-API-Key directly."
    ),
}


def render(error: SmsapiError, request_id: str, /, **members: Any) -> Answer:
    """Return the problem answer for this error; ``members`` are added to the problem object."""
    problem = PROBLEMS[error.code]
    document: dict[str, Any] = {
        "type": f"/problems/{error.code}",
        "title": problem.title,
        "status": problem.status,
        "detail": error.detail,
        "code": error.code,
        "request_id": request_id,
        **members,
    }
    if isinstance(error, InvalidInput):
        document["errors"] = [{"pointer": each.pointer, "message": each.message} for each in error.errors]
    if isinstance(error, RecipientOptedOut) and error.opted_out_at is not None:
        document["opted_out_at"] = error.opted_out_at
    headers = {} if error.retry_after_seconds is None else {"Retry-After": str(error.retry_after_seconds)}
    if problem.status == 401:  # noqa: PLR2004 - RFC 9110 section 11.6.1: a 401 must say how to authenticate
        headers["WWW-Authenticate"] = 'Bearer realm="smsapi", ApiKey realm="smsapi"'
    return Answer(problem.status, to_json(document), headers, PROBLEM)
