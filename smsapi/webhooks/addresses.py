"""Which addresses a webhook may go to: those of the public internet, and what a setting adds.

The list is our own: ``ipaddress.is_global`` differs from one patch release of Python to the next, and knows nothing of
addresses that hold another one within.
"""

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final, NamedTuple
from urllib.parse import SplitResult, urlsplit

Network = IPv4Network | IPv6Network

MAX_URL: Final = 2000
_VISIBLE: Final = re.compile(r"[!-~]+")
_NAME: Final = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9_-]{1,63}(?<!-))*\.?")
_MAX_NAME: Final = 253
_PORTS: Final = {"https": 443, "http": 80}

# IANA's special-purpose registry, multicast, and the address at which Azure's hosts ask for their secrets.
_DENIED_V4: Final = tuple(
    IPv4Network(each)
    for each in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16"),
        *("192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
        "168.63.129.16/32",
    )
)
_GLOBAL_V6: Final = IPv6Network("2000::/3")
# Protocol assignments with Teredo, documentation, 6to4: what they hold within may be anything.
_DENIED_V6: Final = tuple(IPv6Network(each) for each in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"))
_NAT64: Final = IPv6Network("64:ff9b::/96")


class Reach(NamedTuple):
    """Where webhooks may go: to public addresses and these networks, at these ports, first and last of each range."""

    networks: Sequence[Network]
    ports: Sequence[tuple[int, int]]


def is_allowed(address: str, networks: Sequence[Network]) -> bool:
    """Say whether a webhook may be sent to this address: a public one, or one of these networks."""
    try:
        found = ip_address(address)
    except ValueError:
        return False
    if isinstance(found, IPv6Address) and found.scope_id is not None:
        return False
    found = _plain(found)
    return is_within(found, networks) or _is_public(found)


def is_within(address: IPv4Address | IPv6Address | str, networks: Sequence[Network]) -> bool:
    """Say whether the address is of one of these networks."""
    found = _plain(ip_address(address))
    return any(found.version == network.version and found in network for network in networks)


def _plain(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _DENIED_V4)
    return address in _GLOBAL_V6 and not any(address in network for network in _DENIED_V6)


def check_url(url: str, networks: Sequence[Network], ports: Sequence[tuple[int, int]] = ((1, 65_535),)) -> SplitResult:
    """Return the parts of a URL that a webhook may go to, as far as it can be told without asking for its name.

    ``ports`` are ranges, first and last.

    Raises:
        ValueError: with the rule that it breaks, for the caller.

    """
    if len(url) > MAX_URL or not _VISIBLE.fullmatch(url):
        raise ValueError(f"Must be at most {MAX_URL} characters of visible ASCII; a name in punycode.")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("Must be a URL such as https://example.com/hooks.") from None
    schemes = ("https", "http") if networks else ("https",)
    if parts.scheme not in schemes or not parts.hostname or port == 0:
        raise ValueError(f"Must be a URL that starts with {' or '.join(f'{each}://' for each in schemes)}.")
    if parts.username is not None or parts.password is not None or "#" in url:
        raise ValueError("Must have neither a user name nor a fragment.")
    effective = port or _PORTS[parts.scheme]
    if not any(first <= effective <= last for first, last in ports):
        raise ValueError(f"Must not lead to port {effective}: webhooks may go to {_shown(ports)} only.")
    _check_host(parts.hostname, parts.scheme, networks, bracketed="[" in parts.netloc)
    return parts


def _shown(ports: Sequence[tuple[int, int]]) -> str:
    return ", ".join(f"{first}" if first == last else f"{first} to {last}" for first, last in ports)


def _check_host(host: str, scheme: str, networks: Sequence[Network], *, bracketed: bool) -> None:
    try:
        address = ip_address(host)
    except ValueError:
        if bracketed or len(host) > _MAX_NAME or not _NAME.fullmatch(host):
            raise ValueError("Must have a host name or an address.") from None
        return
    if not is_allowed(host, networks) or (scheme == "http" and not is_within(address, networks)):
        raise ValueError("Must not lead to a private or special address.")
