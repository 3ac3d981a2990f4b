"""What can go wrong, as facts of this domain; nothing here knows of HTTP.

The tree::

    SmsapiError
    ├── SettingsInvalid
    ├── InvalidInput              fields that break a rule, each with its pointer
    ├── MalformedRequest          the body cannot be read at all
    ├── UnsupportedMediaType
    ├── BodyIncomplete            it broke off before its end
    ├── BodyTooLarge              longer, or of more rows, than is taken
    ├── NotFound
    ├── AuthError
    │   ├── Unauthenticated
    │   ├── TooManyFailedLogins
    │   ├── ScopeMissing
    │   ├── InvalidScope
    │   ├── InvalidGrant
    │   └── UnsupportedGrant
    ├── Refused                   a message that will not be taken; nothing is stored
    │   ├── SenderNotAllowed
    │   ├── CountryNotAllowed
    │   ├── TextTooLong
    │   ├── TooManySegments
    │   ├── PriceTooHigh
    │   └── RecipientOptedOut
    ├── BatchRejected             an all-or-nothing batch with a bad row; nothing of it is sent
    ├── IdempotencyError
    │   ├── IdempotencyKeyInvalid
    │   ├── IdempotencyKeyReused
    │   └── IdempotencyInProgress
    ├── TooLate                   the message no longer waits: it is on its way, or settled
    ├── TooEarly                  the message still has to be sent, so what it needs cannot be erased
    ├── TooManyEndpoints          the client has as many webhook endpoints as it may
    ├── EventsExpired             the place in the list of events is not kept any more
    ├── NotUnknown                there is no doubt about the message that anybody could settle
    ├── RejectedByProvider        Plivo refused this message for good
    ├── ProviderAccount           Plivo refused because of our account
    ├── RateLimited
    ├── SignatureInvalid          a request in Plivo's name that Plivo did not sign
    └── Unavailable               something we need is down; trying again later is right
        ├── StoreUnavailable
        ├── QueueFull
        └── LimiterUnavailable

``code`` is the stable name that a caller sees; ``smsapi.web.problems`` maps each to its status and its page.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class FieldError:
    """One broken rule: where (an RFC 6901 pointer) and what, in a sentence."""

    pointer: str
    message: str


class SmsapiError(Exception):
    """The root; ``detail`` is a sentence that the caller may read."""

    code: ClassVar[str] = "internal_error"

    def __init__(self, detail: str, *, retry_after_seconds: int | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after_seconds = retry_after_seconds


class SettingsInvalid(SmsapiError):
    """One or more settings are missing or bad; every bad one is named in ``detail``, one to a line."""

    code = "settings_invalid"


class InvalidInput(SmsapiError):
    """The request is readable and breaks the schema."""

    code = "validation_failed"

    def __init__(self, errors: Sequence[FieldError]) -> None:
        super().__init__("One or more fields are missing or invalid; see errors.")
        self.errors = tuple(errors)

    @classmethod
    def at(cls, pointer: str, message: str) -> "InvalidInput":
        """Return the error for a single field."""
        return cls([FieldError(pointer, message)])


class MalformedRequest(SmsapiError):
    """The body is not JSON, or not JSON that we accept (duplicate keys, NaN, lone surrogates)."""

    code = "malformed_request"


class UnsupportedMediaType(SmsapiError):
    """The body is of another type than the route takes."""

    code = "unsupported_media_type"


class BodyIncomplete(SmsapiError):
    """The body broke off before its end, so that nothing of it was taken."""

    code = "body_incomplete"


class BodyTooLarge(SmsapiError):
    """The body is longer, or holds more rows, than the route takes."""

    code = "body_too_large"


class NotFound(SmsapiError):
    """There is no such thing, or it is somebody else's: the same answer for both."""

    code = "not_found"


class AuthError(SmsapiError):
    """The caller is not known or may not do this."""


class Unauthenticated(AuthError):
    """No credential, or one that is malformed, wrong, expired or revoked."""

    code = "unauthenticated"


class TooManyFailedLogins(AuthError):
    """This address has failed too often; even a right credential waits at the login."""

    code = "too_many_failed_logins"


class ScopeMissing(AuthError):
    """Known caller, but its credential lacks the scope."""

    code = "insufficient_scope"


class InvalidScope(AuthError):
    """A token was asked for with a scope that the key lacks (RFC 6749 section 5.2)."""

    code = "invalid_scope"


class InvalidGrant(AuthError):
    """The token request is incomplete or contradicts itself (RFC 6749 ``invalid_request``)."""

    code = "invalid_request"


class UnsupportedGrant(AuthError):
    """A grant type other than client credentials (RFC 6749 ``unsupported_grant_type``)."""

    code = "unsupported_grant_type"


class Refused(SmsapiError):
    """The message will not be taken, and nothing of it is stored."""


class SenderNotAllowed(Refused):
    """The sender is not the client's, is not usable in the country, or there is none."""

    code = "sender_not_allowed"


class CountryNotAllowed(Refused):
    """The client may not text this country."""

    code = "country_not_allowed"


class TextTooLong(Refused):
    """The text is longer than Plivo takes in one message."""

    code = "text_too_long"


class TooManySegments(Refused):
    """The text needs more segments than the caller allowed."""

    code = "too_many_segments"


class PriceTooHigh(Refused):
    """The message would cost more than the caller allowed, or its price is not known."""

    code = "price_too_high"


class RecipientOptedOut(Refused):
    """The recipient does not want to be texted by this client, or from this sender.

    ``opted_out_at`` says since when (RFC 3339), where that is known here.
    """

    code = "recipient_opted_out"

    def __init__(self, detail: str, *, opted_out_at: str | None = None) -> None:
        super().__init__(detail)
        self.opted_out_at = opted_out_at


class BatchRejected(SmsapiError):
    """A batch that was to be sent whole or not at all has rows that cannot be sent; they can be read."""

    code = "batch_rejected"


class IdempotencyError(SmsapiError):
    """The Idempotency-Key cannot be honoured as asked."""


class IdempotencyKeyInvalid(IdempotencyError):
    """The key is empty, too long, or not visible ASCII."""

    code = "idempotency_key_invalid"


class IdempotencyKeyReused(IdempotencyError):
    """The key was used before, with another body."""

    code = "idempotency_key_reused"


class IdempotencyInProgress(IdempotencyError):
    """The first request with this key is still running."""

    code = "idempotency_in_progress"


class TooLate(SmsapiError):
    """The message no longer waits, so it can be neither changed nor called off."""

    code = "too_late"


class TooEarly(SmsapiError):
    """The message still has to be sent or looked for, so nothing of it can be erased."""

    code = "too_early"


class TooManyEndpoints(SmsapiError):
    """The client has as many webhook endpoints as it may."""

    code = "too_many_endpoints"


class EventsExpired(SmsapiError):
    """The event to go on after is kept no more, or never was: what followed it may be missing."""

    code = "events_expired"


class NotUnknown(SmsapiError):
    """The message's outcome is known, so there is nothing to resolve."""

    code = "not_unknown"


class RejectedByProvider(SmsapiError):
    """Plivo refused this message for good; it stays readable as ``failed``."""

    code = "rejected_by_provider"


class ProviderAccount(SmsapiError):
    """Plivo refused because of our account: credentials, balance, a feature or a country not enabled."""

    code = "provider_account"


class RateLimited(SmsapiError):
    """A limit is spent."""

    code = "rate_limited"


class SignatureInvalid(SmsapiError):
    """A request in Plivo's name carries no valid signature."""

    code = "signature_invalid"


class Unavailable(SmsapiError):
    """Something that we need is down.

    Nothing was taken, or whether it was is not known; repeating with the same Idempotency-Key is safe.
    """

    code = "unavailable"


class StoreUnavailable(Unavailable):
    """The database does not answer."""

    code = "store_unavailable"


class QueueFull(Unavailable):
    """So much waits already that the message would wait for too long."""

    code = "queue_full"


class LimiterUnavailable(Unavailable):
    """Logins cannot be counted, so none is tried."""

    code = "limiter_unavailable"
