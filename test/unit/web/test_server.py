"""The page's server, asked over HTTP as a browser and as others would."""

from __future__ import annotations

import http.client
import json
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import fields
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest

pytest.importorskip("aiohttp")

from edge_vision.datatypes import CalibrationStatus
from edge_vision.web.address import is_loopback
from edge_vision.web.control import COMMANDS, status_json
from edge_vision.web.errors import WebError
from edge_vision.web.server import Server


@contextmanager
def asked(
    server: Server, path: str, method: str = "GET", body: str | None = None, **headers: str
) -> Iterator[http.client.HTTPResponse]:
    address = urlsplit(server.url)
    with closing(http.client.HTTPConnection("127.0.0.1", address.port, timeout=10)) as connection:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, given)
        yield connection.getresponse()


def post(server: Server, name: str, body: str = "{}", **headers: str) -> tuple[int, Any]:
    headers.setdefault("Content_Type", "application/json")
    with asked(server, f"/command/{name}", "POST", body, **headers) as response:
        return response.status, json.loads(response.read())


@contextmanager
def asked_without_answer(server: Server, name: str) -> Iterator[None]:
    with closing(http.client.HTTPConnection("127.0.0.1", urlsplit(server.url).port, timeout=10)) as connection:
        connection.request("POST", f"/command/{name}", "{}", {"Content-Type": "application/json"})
        yield


def event(response: http.client.HTTPResponse, kind: str) -> str:
    """The data of the next event of a kind."""
    seen = ""
    while True:
        line = response.readline().decode().rstrip("\n")
        if line.startswith("event: "):
            seen = line[7:]
        if line.startswith("data:") and seen == kind:
            return line[5:].strip()


def test_the_page_and_its_files_come_with_headers_that_shut_others_out(server: Server) -> None:
    for path, kind in (("/", "text/html"), ("/script.js", "text/javascript"), ("/style.css", "text/css")):
        with asked(server, path) as response:
            body = response.read()
            assert response.status == 200
            assert response.headers["Content-Type"].startswith(kind)
            assert "default-src 'none'" in response.headers["Content-Security-Policy"]
            assert "unsafe" not in response.headers["Content-Security-Policy"]
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert response.headers["X-Frame-Options"] == "DENY"
            assert b"http://" not in body.replace(b"http://www.w3.org/2000/svg", b"")  # a robot has no internet
            assert b"https://" not in body
            tag = response.headers["ETag"]
        with asked(server, path, If_None_Match=tag) as response:
            assert response.status == 304
    for path in ("/server.py", "/..%2fserver.py", "/nothing.js"):
        with asked(server, path) as response:
            assert response.status == 404, path


def test_the_status_is_json_with_every_field_and_null_for_what_is_not_known() -> None:
    status = CalibrationStatus(
        corners=np.zeros((54, 2), np.float32), next_outline=np.array([[1, 2], [3.5, 4]], np.float32), rms=0.25
    )
    told = json.loads(status_json(status))
    assert set(told) == {field.name for field in fields(CalibrationStatus)}
    assert told["uncertainty_centre"] is None
    assert told["rms"] == 0.25
    assert told["corners"] == 54
    assert told["next_outline"] == [[1, 2], [3.5, 4]]
    assert np.array(told["cells"]).shape == (10, 10)


def test_events_tell_the_status_and_its_changes(server: Server, control: Any) -> None:
    with asked(server, "/status.json") as response:
        assert json.loads(response.read())["board"] == "chessboard 9 x 6, 25 mm"
    with asked(server, "/events") as response:
        assert response.headers["Content-Type"] == "text/event-stream"
        assert json.loads(event(response, "status"))["state"] == "idle"
        control.tell(state="collecting", message="started")
        assert json.loads(event(response, "status"))["message"] == "started"
        event(response, "alive")  # where nothing changes, a sign of life


def test_nothing_is_asked_for_while_nobody_looks(server: Server, control: Any, tools: Any) -> None:
    with asked(server, "/events") as response:
        event(response, "status")
        with asked(server, "/preview.jpg") as picture:
            assert picture.status == 200

    def still() -> bool:
        before = control.statuses, control.previews
        time.sleep(0.7)
        return before == (control.statuses, control.previews)

    tools.wait_until(still, "no more questions to the control", 15)


def test_pictures_come_once_each_and_not_faster_than_five_a_second(server: Server, control: Any, tools: Any) -> None:
    version, indices, started = "0", [], time.monotonic()
    for _ in range(4):
        with asked(server, f"/preview.jpg?after={version}") as response:
            assert response.headers["Content-Type"] == "image/jpeg"
            version = response.headers["X-Version"]
            indices.append(tools.picture_index(response.read()))
    assert indices == sorted(set(indices))
    # a loaded machine makes it slower, never faster; one picture may have waited already
    assert control.previews <= 2 + (time.monotonic() - started) / 0.2


def test_where_there_is_no_picture_it_says_so(server: Server, control: Any) -> None:
    control.without_picture = True
    with asked(server, "/preview.jpg") as response:
        assert response.status == 503
        assert b"does the camera run" in response.read()


def test_a_slow_client_of_the_stream_skips_pictures(server: Server, control: Any, tools: Any) -> None:
    rng = np.random.default_rng(0)
    control.picture_size = (1280, 720)
    plain = control.preview
    noise = bytes(rng.integers(0, 255, 400_000, np.uint8))
    control.preview = lambda: (plain() or b"") + noise  # decoders stop at the picture's end mark; it fills the buffers
    server.stop()  # it keeps the method that it was started with
    server.start()
    with closing(socket.socket()) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)
        connection.settimeout(10)
        connection.connect(("127.0.0.1", urlsplit(server.url).port))
        connection.sendall(b"GET /preview.mjpg HTTP/1.1\r\nHost: localhost\r\n\r\n")
        tools.wait_until(lambda: control.previews > 8, "eight pictures", 15)
        stream = b""
        while stream.count(b"--picture") < 4:
            stream += connection.recv(1 << 20)
    parts = stream.split(b"--picture")[1:4]
    indices = [tools.picture_index(part[part.index(b"\xff\xd8") :]) for part in parts]
    assert indices[0] <= 2
    assert indices[-1] >= 8, "what waited is skipped, so that the newest comes"


def test_commands_reach_the_control_and_their_outcome_comes_back(server: Server, control: Any) -> None:
    assert post(server, "start") == (200, {"success": True, "message": "did start"})
    status, told = post(server, "save", '{"argument": " /media/usb "}')
    assert (status, told["success"]) == (409, False)
    assert told["message"].startswith("/media/usb: read-only")
    assert control.commands == [("start", ""), ("save", "/media/usb")]


@pytest.mark.parametrize(
    ("name", "body", "status", "said"),
    [
        ("dance", "{}", 404, "there are start, stop"),
        ("start", '{"argument": "x"}', 400, "takes no argument"),
        ("save", "[]", 400, "has to be {}"),
        ("save", '{"argument": 3}', 400, "has to be {}"),
        ("save", '{"argument": "x", "force": true}', 400, "has to be {}"),
        ("save", '{"argument": ', 400, "no JSON"),
        ("save", json.dumps({"argument": "x" * 5000}), 400, "not the name of a folder"),
        ("save", json.dumps({"argument": "a\0b"}), 400, "not the name of a folder"),
        ("load_samples", "{}", 500, "load samples failed: the disk is gone"),
    ],
)
def test_what_cannot_be_done_is_told_with_the_reason(
    server: Server, control: Any, name: str, body: str, status: int, said: str
) -> None:
    code, told = post(server, name, body)
    assert (code, told["success"]) == (status, False)
    assert said in told["message"]
    if status != 500:
        assert control.commands == []
    assert post(server, "start")[0] == 200  # and it goes on


def test_a_body_without_end_is_refused(server: Server, control: Any) -> None:
    with asked(
        server, "/command/save", "POST", '{"argument": "' + "x" * 100_000 + '"}', Content_Type="application/json"
    ) as r:
        assert r.status == 413
    assert control.commands == []


def test_a_long_command_holds_up_no_other_and_is_not_begun_twice(server: Server, control: Any, tools: Any) -> None:
    control.gate.clear()
    answers: list[tuple[int, Any]] = []
    thread = threading.Thread(target=lambda: answers.append(post(server, "calibrate")))
    thread.start()
    tools.wait_until(lambda: control.commands, "calibrate has begun")
    status, told = post(server, "calibrate")
    assert status == 409
    assert "being done already" in told["message"]
    assert post(server, "stop")[0] == 200
    control.gate.set()
    thread.join(10)
    assert answers == [(200, {"success": True, "message": "Calibrated from 9 views"})]
    assert control.commands == [("calibrate", ""), ("stop", "")]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Content_Type": "text/plain"}, 415),
        ({"Content_Type": "application/x-www-form-urlencoded"}, 415),
        ({"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "cors"}, 403),
        ({"Sec_Fetch_Site": "same-site", "Sec_Fetch_Mode": "no-cors"}, 403),
        ({"Host": "evil.example"}, 403),
        ({"Host": "127.0.0.1.evil.example"}, 403),
        ({"Host": ""}, 403),
        ({"Host": "[::1"}, 403),
    ],
)
def test_commands_from_elsewhere_are_refused(
    server: Server, control: Any, headers: dict[str, str], status: int
) -> None:
    code, told = post(server, "reset", **headers)
    assert (code, told["success"]) == (status, False)
    assert control.commands == []


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:1234", "127.0.0.1:9", "[::1]:80", "robot.localhost", "127.9.9.9"]
)
def test_names_of_this_machine_are_served_whatever_port_a_tunnel_has(server: Server, host: str) -> None:
    with asked(server, "/status.json", Host=host) as response:
        assert response.status == 200
    assert post(server, "start", Host=host, Origin=f"http://{host}")[0] == 200


def test_a_name_that_was_made_to_lead_here_sees_nothing(server: Server) -> None:
    for path in ("/", "/status.json", "/preview.jpg", "/events", "/style.css"):
        with asked(server, path, Host="rebound.example:80") as response:
            assert response.status == 403, path
            assert b"http://localhost" in response.read()


def test_bound_wider_nothing_is_shown_without_the_token(control: Any) -> None:
    server = Server(control, host="0.0.0.0")
    url = server.start()
    try:
        token = parse_qs(urlsplit(url).query)["token"][0]
        assert token == server.token
        assert len(token) >= 20
        for path in (
            "/status.json",
            "/events",
            "/preview.jpg",
            "/preview.mjpg",
            "/script.js",
            "/status.json?token=wrong",
        ):
            with asked(server, path) as response:
                assert response.status == 401, path
                assert b"web_token" in response.read()
        with asked(server, "/?token=wrong") as response:
            assert response.status == 401
            assert "Set-Cookie" not in response.headers
            assert b"This page needs its token" in response.read()
        assert post(server, "reset")[0] == 401
        assert post(server, f"reset?token={token}")[0] == 401  # an address is no place for what may act
        assert post(server, "reset", Authorization="Bearer wrong")[0] == 401
        assert control.commands == []

        with asked(server, f"/?token={token}", Host="robot.local:8080") as response:
            assert response.status == 200
            cookie = response.headers["Set-Cookie"]
        assert "SameSite=Strict" in cookie
        assert "HttpOnly" in cookie
        assert token not in cookie
        held = cookie.split(";")[0]
        with asked(server, "/status.json", Cookie=held) as response:
            assert response.status == 200
        assert post(server, "start", Cookie=held)[0] == 200
        assert post(server, "reset", Cookie=held, Origin="http://evil.example")[0] == 403
        assert post(server, "stop", Authorization=f"Bearer {token}")[0] == 200
        assert control.commands == [("start", ""), ("stop", "")]
    finally:
        server.stop()


def test_a_token_of_ones_own_may_have_any_characters(control: Any) -> None:
    server = Server(control, token="schlüssel; &=%?")
    url = server.start()
    try:
        with asked(server, "/?" + urlsplit(url).query) as response:
            assert response.status == 200
            held = response.headers["Set-Cookie"].split(";")[0]
        assert post(server, "start", Cookie=held)[0] == 200
        assert post(server, "start")[0] == 401
    finally:
        server.stop()


def test_two_servers_behind_one_name_keep_their_cookies_apart(control: Any) -> None:
    cookies = []
    for token in ("first robot", "second robot"):
        server = Server(control, token=token)
        query = urlsplit(server.start()).query
        with asked(server, f"/?{query}") as response:
            cookies.append(response.headers["Set-Cookie"].split("=")[0])
        server.stop()
    assert cookies[0] != cookies[1]


def test_a_taken_port_is_told_with_what_to_do(server: Server, control: Any) -> None:
    other = Server(control, port=urlsplit(server.url).port or 0)
    with pytest.raises(WebError, match=r"taken by another program.*web_port"):
        other.start()
    assert other.url == ""
    with pytest.raises(WebError, match=r"web_host"):
        Server(control, host="203.0.113.7").start()
    with pytest.raises(WebError, match="is no port"):
        Server(control, port=70000)
    with pytest.raises(WebError, match="at least 8"):
        Server(control, host="0.0.0.0", token="1234")


def test_stopping_ends_open_streams_and_the_thread_and_it_can_be_started_again(control: Any) -> None:
    server = Server(control)
    server.start()
    with asked(server, "/events") as events, asked(server, "/preview.mjpg") as pictures:
        event(events, "status")
        pictures.read(100)
        server.stop()
        assert events.read() is not None  # to its end
    assert server.url == ""
    assert not [thread for thread in threading.enumerate() if thread.name == "web"]
    server.stop()
    server.start()
    with asked(server, "/status.json") as response:
        assert response.status == 200
    server.stop()


def test_a_command_goes_on_when_its_client_leaves(server: Server, control: Any, tools: Any) -> None:
    control.gate.clear()
    with asked_without_answer(server, "calibrate"):
        tools.wait_until(lambda: control.commands, "calibrate has begun")
    time.sleep(0.1)
    assert post(server, "calibrate")[0] == 409
    control.gate.set()
    tools.wait_until(lambda: post(server, "calibrate")[0] == 200, "the first has ended")


def test_stopping_does_not_wait_for_a_command(server: Server, control: Any, tools: Any) -> None:
    control.gate.clear()
    with asked_without_answer(server, "calibrate"):
        tools.wait_until(lambda: control.commands, "calibrate has begun")
        server.stop()  # the command waits for the gate, which only then is opened
    assert not control.ended
    assert server.url == ""


def test_a_client_that_is_cut_off_is_forgotten(server: Server, control: Any, tools: Any) -> None:
    connection = socket.create_connection(("127.0.0.1", urlsplit(server.url).port))
    connection.sendall(b"GET /preview.mjpg HTTP/1.1\r\nHost: localhost\r\n\r\n")
    connection.recv(1000)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()  # with a reset
    tools.wait_until(lambda: server.listeners == 0, "the client is forgotten")
    assert post(server, "start")[0] == 200


def test_a_status_that_fails_once_does_not_end_the_stream(server: Server, control: Any, caplog: Any) -> None:
    sound = type(control).status
    with asked(server, "/events") as response:
        event(response, "status")
        control.status = lambda: 1 / 0
        time.sleep(0.5)
        control.status = lambda: sound(control)
        control.tell(message="back again")
        assert json.loads(event(response, "status"))["message"] == "back again"
    assert "division by zero" in caplog.text


@pytest.mark.parametrize(
    ("host", "alone"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("[::1]", True), ("127.1.2.3", True), ("0.0.0.0", False),
     ("::", False), ("", False), ("192.168.1.2", False), ("robot.local", False), ("localhost.evil.example", False)],
)  # fmt: skip
def test_which_addresses_this_machine_alone_reaches(host: str, alone: bool) -> None:
    assert is_loopback(host) == alone


def test_every_command_is_on_the_page(server: Server) -> None:
    with asked(server, "/") as response:
        page = response.read().decode()
    assert {name for name in COMMANDS if f'data-command="{name}"' in page} == set(COMMANDS) - {"stop"}  # Start turns
