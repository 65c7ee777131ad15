"""Addresses: which one this machine alone reaches, how others reach it, and why one cannot be served."""

from __future__ import annotations

import errno
import ipaddress
import socket

from edge_vision.web.errors import WebError


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches ``host``, a name or an address."""
    host = host.strip("[]").lower()
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def reached_as(host: str) -> str:
    """What to write into a browser's address where a server is bound to ``host``."""
    if host in ("", "0.0.0.0", "::"):
        host = _own_address()
    return f"[{host.strip('[]')}]" if ":" in host else host


def unservable(error: Exception, host: str, port: int) -> WebError:
    """What to tell where a server could not be bound."""
    number = getattr(error, "errno", None)
    if number == errno.EADDRINUSE:
        return WebError(
            f"The page cannot be served: port {port} of {host or 'this machine'} is taken by another program",
            "Choose another one (web_port), or 0 for any that is free",
        )
    if number == errno.EACCES:
        return WebError(f"The page cannot be served: port {port} is for root alone", "Choose one above 1023 (web_port)")
    return WebError(
        f"The page cannot be served at {host!r}, port {port}: {error}",
        "Choose an address of this machine (web_host): 127.0.0.1 for itself alone, 0.0.0.0 for its networks",
    )


def _own_address() -> str:
    """This machine's address in the network that leads to others, else its name. No packet is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # of RFC 5737: nobody has it
            return str(probe.getsockname()[0])
        except OSError:
            return socket.gethostname()
