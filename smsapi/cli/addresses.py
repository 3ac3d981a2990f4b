"""Addresses to listen on, as the commands are given them."""

import socket

import click

from smsapi.errors import SmsapiError


def split_bind(value: str) -> tuple[str, int]:
    """Return host and port of ``HOST:PORT``; raise a usage error where it is not that."""
    host, _, port = value.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:  # noqa: PLR2004
        raise click.BadParameter(f"{value!r} is not HOST:PORT")
    return host.strip("[]"), int(port)


def check_free(address: str) -> None:
    """Raise :class:`SmsapiError` where the address cannot be listened on.

    gunicorn would try for five seconds, and with ``SO_REUSEPORT`` it would share the port with another service of the
    same user, in silence.
    """
    host, port = split_bind(address)
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
            # Two sockets may both be bound with SO_REUSEADDR; only one of them may listen.
            probe.listen()
    except OSError as error:
        raise SmsapiError(f"{address} cannot be listened on: {error.strerror}. Use --bind HOST:PORT.") from None
