"""The page's server: a thread with an event loop of its own, so that a node that draws and solves never waits for it.

Nothing is drawn, asked for or sent while nobody looks. What a browser gets:

GET /                 the page          GET /status.json    the status, once
GET /events           server-sent events: `status` when it changed, `alive` every few seconds
GET /preview.jpg      the newest picture; ?after=N waits for one newer than that of X-Version N (204: none came)
GET /preview.mjpg     pictures without end, for players
POST /command/NAME    {"argument": ""} -> {"success": true, "message": "…"}; 409 where it was refused
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import socket
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

from aiohttp import web

from edge_vision.datatypes import Outcome
from edge_vision.web.address import is_loopback, reached_as, unservable
from edge_vision.web.control import COMMANDS, LONGEST_ARGUMENT, Control, argument_of, outcome_json, status_json
from edge_vision.web.errors import WebError
from edge_vision.web.feed import Feed
from edge_vision.web.guard import HEADERS, SHORTEST_TOKEN, WHERE_THE_TOKEN_IS, Guard, new_token

_LOG = logging.getLogger(__name__)
_PAGE = Path(__file__).parent / "page"
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_OPEN = ("style.css", "icon.svg")  # what the form that asks for the token needs
_INTERVAL = 0.2  # seconds between two statuses, and between two pictures
_ALIVE = 3.0  # seconds; script.js takes three times that without a word for a lost connection
_WAIT = 2.0  # seconds that a picture is waited for
_MOST_LISTENERS = 32
_SENDING = 1 << 17  # bytes that wait in the kernel for a slow client: a picture or two, not seconds of them


class Server:
    """Serves ``control`` at http://``host``:``port`` (0: any that is free) from `start` to `stop`.

    Where ``host`` is not loopback, ``token`` is asked for; one is made where it is "". Given with loopback, it is asked
    for too.
    """

    def __init__(self, control: Control, *, host: str = "127.0.0.1", port: int = 0, token: str = "") -> None:
        """Raises WebError where the port is none, or the token too short for a network."""
        if not 0 <= port <= 65535:
            raise WebError(f"{port} is no port", "Take one of 1024 to 65535, or 0 for any that is free")
        loopback = is_loopback(host)
        if token and not loopback and len(token) < SHORTEST_TOKEN:
            raise WebError(
                f"The page's token has {len(token)} characters, and {host!r} is reached from the network",
                f"Take at least {SHORTEST_TOKEN}, or none: one is made then, and logged",
            )
        self.url = ""
        """Where to open the page, with the token where one is needed; "" while it is not served."""
        self._control = control
        self._host = host
        self._port = port
        self._guard = Guard(token or ("" if loopback else new_token()), loopback)
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end = asyncio.Event()
        self._running: set[str] = set()  # names of commands
        self._doing: set[asyncio.Task[web.StreamResponse]] = set()  # kept: the loop's own references are weak

    @property
    def token(self) -> str:
        """ "" where none is needed."""
        return self._guard.token

    @property
    def listeners(self) -> int:
        """Streams and pictures that are being waited for."""
        return self._statuses.listeners + self._pictures.listeners if self._loop is not None else 0

    def start(self) -> str:
        """Returns `url` once the page can be opened. Raises WebError where the port is taken or is not to be had."""
        if self._thread is not None:
            return self.url
        started: _Started = _Started()
        self._thread = threading.Thread(target=self._serve, args=(started,), name="web", daemon=True)
        self._thread.start()
        started.done.wait()
        if started.error is not None:
            self._thread.join()
            self._thread = None
            raise started.error
        return self.url

    def stop(self) -> None:
        """Closes all connections. A command that is being done goes on; its answer reaches nobody."""
        if self._thread is None:
            return
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: it has ended by itself
                self._loop.call_soon_threadsafe(self._end.set)
        if self._thread is not threading.current_thread():
            self._thread.join()
        self._thread = None
        self.url = ""

    def _serve(self, started: _Started) -> None:
        try:
            asyncio.run(self._run(started))
        except Exception as error:
            if started.done.is_set():
                _LOG.exception("The page's server ended")
            started.error = error
        finally:
            self._loop = None
            started.done.set()

    async def _run(self, started: _Started) -> None:
        self._loop = asyncio.get_running_loop()
        self._end = asyncio.Event()
        looks = ThreadPoolExecutor(2, "web-look")
        commands = ThreadPoolExecutor(len(COMMANDS), "web-command")
        self._pages = _pages()
        self._statuses = Feed(self._status, _INTERVAL, looks)
        self._pictures = Feed(self._control.preview, _INTERVAL, looks)
        self._looks, self._commands = looks, commands
        runner = web.AppRunner(
            self._application(),
            access_log=None,
            handle_signals=False,
            handler_cancellation=True,  # a stream ends with its client, and does not wait for something to send
            shutdown_timeout=0.5,
        )
        await runner.setup()
        try:
            try:
                await web.TCPSite(runner, self._host or None, self._port).start()
            except (OSError, OverflowError) as error:
                raise unservable(error, self._host, self._port) from error
            self.url = self._address(runner.addresses[0][1])
            started.done.set()
            await self._end.wait()
        finally:
            self._statuses.close()
            self._pictures.close()
            await runner.cleanup()
            looks.shutdown(wait=False)
            commands.shutdown(wait=False)

    def _application(self) -> web.Application:
        application = web.Application(middlewares=[self._middleware()], client_max_size=LONGEST_ARGUMENT * 8)
        application.on_response_prepare.append(_add_headers)
        application.router.add_get("/", self._page)
        application.router.add_get("/status.json", self._status_once)
        application.router.add_get("/events", self._events, allow_head=False)
        application.router.add_get("/preview.jpg", self._picture, allow_head=False)
        application.router.add_get("/preview.mjpg", self._motion, allow_head=False)
        application.router.add_get("/{name:[a-z_]+\\.(css|js|svg)}", self._file)
        application.router.add_post("/command/{name}", self._command)
        return application

    def _middleware(self) -> Callable[..., Awaitable[web.StreamResponse]]:
        Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

        @web.middleware
        async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
            refusal = self._guard.refusal(request)
            if refusal is not None:
                return _told(request, *refusal)
            if not self._guard.knows(request) and request.path.lstrip("/") not in _OPEN:
                if request.path == "/":
                    return self._answer(request, "token.html", 401)
                return _told(request, 401, f"This needs the page's token. {WHERE_THE_TOKEN_IS}")
            return await handler(request)

        return guarded

    async def _page(self, request: web.Request) -> web.StreamResponse:
        response = self._answer(request, "index.html")
        if self._guard.introduces(request):
            # Not by a redirection to the bare address: a strict cookie is not sent on it when the link was elsewhere.
            response.set_cookie(self._guard.cookie, self._guard.ticket, httponly=True, samesite="Strict", path="/")
        return response

    async def _file(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        return self._answer(request, name) if name in self._pages else _told(request, 404, f"There is no {name} here")

    def _answer(self, request: web.Request, name: str, status: int = 200) -> web.Response:
        """A file of the page; 304 where the browser has it already."""
        body, tag = self._pages[name]
        headers = {"Cache-Control": "no-cache", "ETag": f'"{tag}"'}
        if status == 200 and f'"{tag}"' in request.headers.get("If-None-Match", ""):
            return web.Response(status=304, headers=headers)
        kind = _TYPES[Path(name).suffix]
        return web.Response(body=body, status=status, content_type=kind, charset="utf-8", headers=headers)

    async def _status_once(self, request: web.Request) -> web.StreamResponse:
        told = await asyncio.get_running_loop().run_in_executor(self._looks, self._status)
        return web.Response(text=told, content_type="application/json")

    def _status(self) -> str:
        return status_json(self._control.status())

    async def _events(self, request: web.Request) -> web.StreamResponse:
        if self._statuses.listeners >= _MOST_LISTENERS:
            return _told(request, 503, f"{_MOST_LISTENERS} pages are open already: close one")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"retry: 1000\n\n")
        version = 0
        with self._statuses.listening(), contextlib.suppress(ConnectionError):
            while not self._statuses.closed:
                new = await self._statuses.newer(version, _ALIVE)
                if new is None:
                    await response.write(b"event: alive\ndata:\n\n")
                    continue
                version, text = new
                await response.write(f"event: status\ndata: {text}\n\n".encode())
        return response

    async def _picture(self, request: web.Request) -> web.StreamResponse:
        if self._pictures.listeners >= _MOST_LISTENERS:
            return _told(request, 503, f"{_MOST_LISTENERS} pages are open already: close one")
        after = request.query.get("after", "0")
        with self._pictures.listening():
            new = await self._pictures.newer(int(after) if after.isdecimal() else 0, _WAIT)
        if new is None and "after" in request.query:
            return web.Response(status=204)
        if new is None:
            return _told(request, 503, "There is no picture yet: does the camera run, and send to image_raw?")
        return web.Response(body=new[1], content_type="image/jpeg", headers={"X-Version": str(new[0])})

    async def _motion(self, request: web.Request) -> web.StreamResponse:
        if self._pictures.listeners >= _MOST_LISTENERS:
            return _told(request, 503, f"{_MOST_LISTENERS} pages are open already: close one")
        _buffer_little(request)
        response = web.StreamResponse(headers={"Content-Type": "multipart/x-mixed-replace; boundary=picture"})
        await response.prepare(request)
        version = 0
        with self._pictures.listening(), contextlib.suppress(ConnectionError):
            while not self._pictures.closed:
                new = await self._pictures.newer(version, _WAIT)
                if new is None:
                    continue
                version, picture = new[0], new[1] or b""
                head = f"--picture\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
                await response.write(head.encode() + picture + b"\r\n")
        return response

    async def _command(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        if name not in COMMANDS:
            return _told(request, 404, f"There is no command {name!r}: there are {', '.join(COMMANDS)}")
        try:
            argument = argument_of(await request.text(), name)
        except ValueError as error:
            return _told(request, 400, str(error))
        if name in self._running:
            return _told(request, 409, f"{name.replace('_', ' ')} is being done already: wait for its end")
        self._running.add(name)
        # A task of its own: the request is cancelled where its client leaves, the command goes on.
        done = asyncio.get_running_loop().create_task(self._do(request, name, argument))
        self._doing.add(done)
        done.add_done_callback(self._doing.discard)
        return await asyncio.shield(done)

    async def _do(self, request: web.Request, name: str, argument: str) -> web.StreamResponse:
        try:
            outcome = await asyncio.get_running_loop().run_in_executor(
                self._commands, self._control.command, name, argument
            )
        except Exception as error:
            _LOG.exception("The page's command %s failed", name)
            return _told(request, 500, f"{name.replace('_', ' ')} failed: {error or type(error).__name__}")
        finally:
            self._running.discard(name)
        return web.Response(
            text=outcome_json(outcome), status=200 if outcome.success else 409, content_type="application/json"
        )

    def _address(self, port: int) -> str:
        return f"http://{reached_as(self._host)}:{port}/" + (
            f"?token={quote(self.token, safe='')}" if self.token else ""
        )


class _Started:
    """How the thread tells that it serves, or why not."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.error: Exception | None = None


def _pages() -> dict[str, tuple[bytes, str]]:
    """Name -> (content, tag)"""
    files = {path.name: path.read_bytes() for path in _PAGE.iterdir() if path.suffix in _TYPES}
    return {name: (body, hashlib.sha256(body).hexdigest()[:16]) for name, body in files.items()}


def _told(request: web.Request, status: int, message: str) -> web.Response:
    """A refusal: JSON for commands, text for the others."""
    if request.method == "POST":
        text = outcome_json(Outcome(False, message))
        return web.Response(text=text, status=status, content_type="application/json")
    return web.Response(text=f"{message}.\n", status=status)


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)
    response.headers.setdefault("Cache-Control", "no-store")


def _buffer_little(request: web.Request) -> None:
    """Lets a slow client's connection hold a picture or two, so that it skips the others and is never behind."""
    transport = request.transport
    if transport is not None:
        transport.set_write_buffer_limits(high=1)
        connection = transport.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SENDING)
