"""Who may see the page and press its buttons.

Bound to loopback, the page is for whoever is on this machine (or comes by ssh). Three things must not open it to others
all the same: a page of another origin in the same browser that posts a command (Origin, Sec-Fetch-Site, and a content
type that a form cannot send), one whose name was made to resolve to 127.0.0.1 (DNS rebinding: Host), and one that shows
it in a frame (the headers below). Bound wider, a token is needed.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from aiohttp import web

from edge_vision.web.address import is_loopback

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Server": "edge_vision",
}
SHORTEST_TOKEN = 8
WHERE_THE_TOKEN_IS = (
    "It is in the address that the calibration node logged when it started (…/?token=…), or what its "
    "parameter web_token was set to"
)


def new_token() -> str:
    """128 bits, fit for an address."""
    return secrets.token_urlsafe(16)


@dataclass(frozen=True)
class Guard:
    """``token``: "" where none is needed. ``loopback``: whether the server is bound to it."""

    token: str
    loopback: bool
    cookie: str = field(init=False)
    """Its name. Cookies are shared by all ports of a host, so that it names the token: two robots behind two ports of
    `ssh -L` do not take each other's."""
    ticket: str = field(init=False)
    """Its value: derived from the token, which itself is not left in the browser."""

    def __post_init__(self) -> None:
        digest = hashlib.sha256(b"edge_vision page\0" + self.token.encode()).hexdigest()
        object.__setattr__(self, "cookie", f"edge_vision_{digest[:8]}")
        object.__setattr__(self, "ticket", digest[8:])

    def knows(self, request: web.Request) -> bool:
        """Whether the request carries the token: as Bearer, as cookie, or, where it only reads, in the address."""
        if not self.token:
            return True
        kind, _, value = request.headers.get("Authorization", "").partition(" ")
        return (
            (kind.lower() == "bearer" and _same(value.strip(), self.token))
            or _same(request.cookies.get(self.cookie, ""), self.ticket)
            or (request.method in ("GET", "HEAD") and self.introduces(request))
        )

    def introduces(self, request: web.Request) -> bool:
        """Whether the token is in the address, so that a cookie shall be set."""
        return bool(self.token) and _same(request.query.get("token", ""), self.token)

    def refusal(self, request: web.Request) -> tuple[int, str] | None:
        """HTTP status and text where the request comes from elsewhere, whatever token it carries; None: it may go on"""
        host = request.headers.get("Host", "")
        if self.loopback and not is_loopback(_name(host)):
            return 403, (
                f"This page is served to this machine alone, and was asked for as {host!r}. Open it as "
                "http://localhost with its port; from elsewhere by ssh -L"
            )
        if (
            request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin")
            and request.headers.get("Sec-Fetch-Mode") != "navigate"
        ):
            return 403, "A page of another origin asked for this. Open this page by its own address"
        if request.method != "POST":
            return None
        origin = request.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return 403, f"Commands are taken from this page only, and this one came from {origin}"
        if request.content_type != "application/json":
            return 415, 'A command\'s body is JSON: send "Content-Type: application/json" and {} or {"argument": "…"}'
        return None


def _same(given: str, wanted: str) -> bool:
    return secrets.compare_digest(given.encode(), wanted.encode())


def _name(host: str) -> str:
    """Host without its port; "" where it is none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
