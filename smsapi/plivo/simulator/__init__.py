"""A Plivo of our own: a real HTTP server that speaks the Message API's wire format and can fail in every known way.

It takes texts, answers and bills them in Plivo's words, posts signed delivery reports and keeps what it took, so that a
test can count what was lost and what was sent twice. It knows SMS from a sender: no powerpacks, media or WhatsApp.
Importing it opens nothing.
"""

from smsapi.plivo.simulator.server import Simulator, serve_forever

__all__ = ["Simulator", "serve_forever"]
