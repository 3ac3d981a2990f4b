"""The blueprint ``inbound``: where Plivo brings what people texted us, and where callers read it."""

from xml.sax.saxutils import escape, quoteattr

from flask import Blueprint, request
from flask.wrappers import Response

from smsapi.auth.guard import caller
from smsapi.deps import Deps
from smsapi.ids import show_id
from smsapi.inbound import schemas, service
from smsapi.inbound.reading import Received, read_inbound
from smsapi.inbound.service import Taken
from smsapi.log import get_logger
from smsapi.web.answers import answer
from smsapi.web.body import load_query
from smsapi.web.context import deps, to_response
from smsapi.web.fields import StrictSchema
from smsapi.web.operations import operation
from smsapi.web.pagination import page_of
from smsapi.web.paths import id_in_path
from smsapi.web.signed import nonce_of_signature, require_signature

blueprint = Blueprint("inbound", __name__)
log = get_logger()

_XML = "application/xml"
_query = schemas.InboundQuerySchema()
_no_query = StrictSchema()


@blueprint.post("/plivo/inbound")
@operation(
    summary="Take an inbound text from Plivo",
    public="Plivo authenticates itself by its signature",
    answers={200: _XML},
    problems=("body_too_large", "signature_invalid"),
)
def take_inbound() -> Response:
    """Store a text that somebody sent to one of our numbers, and obey it where it says STOP, START or HELP.

    200 also for what was taken before. The form may be of 64 KiB.
    """
    return _take()


@blueprint.get("/plivo/inbound")
@operation(
    summary="Take an inbound text from Plivo, by GET",
    public="Plivo authenticates itself by its signature",
    answers={200: _XML},
    problems=("signature_invalid",),
)
def take_inbound_of_query() -> Response:
    """Do the same with a text whose fields stand in the query, which its V3 signature covers."""
    return _take()


def _take() -> Response:
    world = deps()
    require_signature(world, count_refused=lambda: world.metrics.count_inbound("refused"))
    fields = request.form if request.method == "POST" else request.args
    received = read_inbound(fields, nonce=nonce_of_signature())
    taken = service.take_inbound(world, received)
    world.metrics.count_inbound(taken.result)
    inbound = taken.inbound
    log.debug(
        "inbound",
        client_id=None if inbound is None or inbound.client_id is None else show_id("cli", inbound.client_id),
        inbound_id=None if inbound is None else show_id("inb", inbound.id),
        result=taken.result,
        review=taken.reading.review,
        wish=taken.reading.wish,
    )
    return _said(_help_for(world, received, taken))


def _help_for(world: Deps, received: Received, taken: Taken) -> str:
    """Return what Plivo is to text back, if anything: where Plivo knows the text for HELP, it answers by itself."""
    text = world.settings.help_text
    if text is None or taken.reading.wish != "help" or received.intent is not None:
        return ""
    if not received.sender.removeprefix("+").isdecimal():
        return ""  # a name cannot be texted
    source, to = quoteattr(received.to), quoteattr(received.sender)
    return f'<Message src={source} dst={to} type="sms">{escape(text)}</Message>'


def _said(content: str) -> Response:
    # The same answer for a repetition: Plivo comes again only where the first answer did not reach it.
    return Response(f"<Response>{content}</Response>\n", content_type=f"{_XML}; charset=utf-8")


@blueprint.get("/v1/inbound-messages")
@operation(
    summary="List inbound messages",
    scope="messages:read",
    query=schemas.InboundQuerySchema,
    answers={200: schemas.InboundMessageListSchema},
)
def list_inbound_messages() -> Response:
    """Return a page of the texts that people sent to the client, newest first; with `admin` also nobody's.

    None of them is a test: a test key sees none.
    """
    query = load_query(_query, schemas.InboundQuery)
    limit = query.page.limit
    with deps().database.read() as connection:
        found = service.list_inbound(connection, caller(), query.wanted, limit=limit, before=query.page.before)
    return to_response(answer(page_of(found, limit, service.present_inbound, lambda inbound: inbound.id)))


@blueprint.get("/v1/inbound-messages/<inbound_id>")
@operation(
    summary="Get an inbound message",
    scope="messages:read",
    query=StrictSchema,
    answers={200: schemas.InboundMessageSchema},
    problems=("not_found",),
)
def get_inbound_message(inbound_id: str) -> Response:
    """Return a text that somebody sent to the client; a test key finds none."""
    load_query(_no_query, dict)
    with deps().database.read() as connection:
        found = service.get_inbound(connection, caller(), id_in_path("inb", inbound_id, what="inbound message"))
    return to_response(answer(service.present_inbound(found)))
