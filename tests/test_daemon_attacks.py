"""What hostile or broken clients send, and what the daemon says to it; it must go on serving."""

from __future__ import annotations

import gzip
import json
import socket
import threading
import time
from pathlib import Path

import pytest
from daemon_process import running
from serving import make_bundle, request

from fairlead.platform.wire import frames

RECEIPT = 0.8
GRACE = 1.0  # the sweep looks every 0.25 s, and the machine may be busy


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    bundle = make_bundle(tmp_path_factory.mktemp("bundle") / "b").folder
    knobs = (
        f"server.receipt_deadline={RECEIPT}",
        "server.idle_timeout=1",
        "server.max_connections=40",
        "server.max_connections_per_peer=30",
    )
    with running(bundle, tmp_path_factory.mktemp("daemon"), knobs) as found:
        yield found
        assert found.process.poll() is None, found.text
        assert "Traceback" not in found.text


@pytest.fixture(autouse=True)
def still_good(daemon):
    yield
    end = time.monotonic() + 5
    while time.monotonic() < end:  # connections of the test may still be closing
        try:
            body = frames.encode_request(request(5))
            status, _, _ = daemon.call("POST", "/v1/decide/cloud", body)
        except OSError:
            time.sleep(0.05)
            continue
        if status == 200:
            return
    pytest.fail(f"no decision after the attack: {daemon.text}")


def connect(daemon):
    made = socket.create_connection(("127.0.0.1", daemon.port), timeout=10)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


def read_all(sock):
    """Everything until the daemon closes; a reset counts as closed."""
    found = b""
    try:
        while part := sock.recv(65536):
            found += part
    except ConnectionError:
        pass
    return found


def send(sock, data):
    try:
        sock.sendall(data)
    except ConnectionError:
        return False
    return True


def read_until(sock, end):
    """Everything until ``end``, or until the daemon closes."""
    found = b""
    while not found.endswith(end) and (part := sock.recv(65536)):
        found += part
    return found


def status_of(answer):
    return int(answer.split(b" ", 2)[1]) if answer else None


def problem_of(answer):
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head, answer
    return json.loads(body)


POST = b"POST /v1/decide/cloud HTTP/1.1\r\nHost: localhost\r\n"


@pytest.mark.parametrize(
    ("name", "begin", "drip"),
    [
        ("nothing", b"", b""),
        ("half a header", POST + b"X-Slow: ", b""),
        ("dripped header", POST + b"X-Slow: ", b"a"),
        ("empty lines", b"", b"\r\n"),
        ("half a body", POST + b"Content-Length: 1000\r\n\r\nabc", b""),
        ("dripped body", POST + b"Content-Length: 1000\r\n\r\nabc", b"a"),
        ("half a chunk", POST + b"Transfer-Encoding: chunked\r\n\r\n10\r\nabc", b""),
    ],
)
def test_a_request_that_takes_too_long_to_arrive_is_closed(daemon, name, begin, drip):
    before = daemon.metric("requests_rejected_total", domain="none", reason="timeout")
    with connect(daemon) as sock:
        began = time.monotonic()
        sock.sendall(begin)
        sock.settimeout(0.1)
        answer = b""
        while time.monotonic() - began < RECEIPT + GRACE + 1:
            if drip and not send(sock, drip):
                break
            try:
                part = sock.recv(4096)
            except TimeoutError:
                continue
            except ConnectionError:
                break
            if not part:
                break
            answer += part
        took = time.monotonic() - began
    assert RECEIPT - 0.05 <= took <= RECEIPT + GRACE
    assert status_of(answer) == 408
    assert problem_of(answer)["code"] == "receipt_deadline"
    after = daemon.metric("requests_rejected_total", domain="none", reason="timeout")
    assert after >= before + 1


def test_an_idle_connection_is_closed_and_a_second_slow_request_on_it_too(daemon):
    with connect(daemon) as sock:
        sock.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert status_of(read_until(sock, b'{"live":true}')) == 200
        began = time.monotonic()
        assert read_all(sock) == b""
        assert 0.5 < time.monotonic() - began < 3  # idle_timeout
    with connect(daemon) as sock:
        sock.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert status_of(read_until(sock, b'{"live":true}')) == 200
        sock.sendall(b"GET /v2/hea")
        assert status_of(read_all(sock)) == 408


@pytest.mark.parametrize(
    "data",
    [
        POST + b"X-Long: " + b"a" * 200_000 + b"\r\n\r\n",
        POST + b"".join(b"X-%d: 1\r\n" % i for i in range(5000)) + b"\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"A" * 500_000,
    ],
    ids=["one long field", "a flood of fields", "long path", "no end of a method"],
)
def test_large_headers_are_refused(daemon, data):
    with connect(daemon) as sock:
        send(sock, data)
        answer = read_all(sock)
    assert status_of(answer) in (None, 400, 431)  # None: reset before the answer could be read
    assert len(answer) < 2000


def test_a_header_just_within_the_limit_is_served(daemon):
    status, _, _ = daemon.call("GET", "/v2/health/live", headers={"X-Long": "a" * 15_000})
    assert status == 200
    status, _, body = daemon.call("GET", "/v2/health/live", headers={"X-Long": "a" * 17_000})
    assert (status, json.loads(body)["code"]) == (431, "header_size")


def test_large_bodies_are_refused_before_they_are_read(daemon):
    with connect(daemon) as sock:
        sock.sendall(POST + b"Content-Length: 100000000\r\n\r\n")
        answer = read_all(sock)
    assert problem_of(answer)["code"] == "size"
    assert status_of(answer) == 413


def test_large_chunked_bodies_are_refused_while_they_arrive(daemon):
    with connect(daemon) as sock:
        sock.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n")
        chunk = b"10000\r\n" + b"a" * 0x10000 + b"\r\n"
        for _ in range(400):
            if not send(sock, chunk):
                break
        answer = read_all(sock)
    assert status_of(answer) in (None, 413)
    sizes = [daemon.metric("requests_rejected_total", domain="cloud", reason="size")]
    assert sizes[0] >= 1


def test_compressed_bodies_are_not_unpacked(daemon):
    bomb = gzip.compress(b"0" * 50_000_000)
    for path in ("/v1/decide/cloud", "/v2/models/cloud/infer", "/v1/extender/cloud/filter"):
        status, _, body = daemon.call("POST", path, bomb, {"Content-Encoding": "gzip"})
        assert (status, json.loads(body)["code"]) == (415, "media"), path


def test_forms_and_plain_text_are_refused(daemon):
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        status, _, _ = daemon.call("POST", "/v1/decide/cloud", b"a=1", {"Content-Type": kind})
        assert status == 415, kind


@pytest.mark.parametrize(
    "data",
    [
        POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\n-1\r\nabc\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nabc\r\n",
        POST + b"Content-Length: -1\r\n\r\n",
        POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        POST + b"Bad Name: 1\r\n\r\n",
        POST + b"X: a\x00b\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 300,
    ],
    ids=[
        "chunk size",
        "negative chunk",
        "huge chunk",
        "negative length",
        "two lengths",
        "length and chunked",
        "unknown coding",
        "field name",
        "NUL",
        "version",
        "TLS hello",
    ],
)
def test_malformed_http_is_refused_and_closed(daemon, data):
    with connect(daemon) as sock:
        send(sock, data)
        answer = read_all(sock)
    assert status_of(answer) in (None, 400, 408)
    if answer:
        assert problem_of(answer)["retryable"] in (False, True)


def test_fields_after_a_chunked_body_are_ignored(daemon):
    body = frames.encode_request(request(5))
    with connect(daemon) as sock:
        sock.sendall(
            POST
            + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % len(body)
            + body
            + b"\r\n0\r\nContent-Encoding: gzip\r\nAuthorization: Bearer x\r\n\r\n"
        )
        assert status_of(read_all(sock)) == 200


def test_pipelined_requests_are_answered_in_order(daemon):
    with connect(daemon) as sock:
        live = b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
        last = b"GET /v2 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        sock.sendall(live * 3 + last)
        answer = read_all(sock)
    assert answer.count(b"HTTP/1.1 200 OK") == 4
    assert answer.rindex(b'"live"') < answer.index(b'"extensions"')


def test_bodies_in_pieces_and_one_behind_the_other_are_whole(daemon):
    bodies = [frames.encode_request(request(5, client="pieces", seq=seq)) for seq in (1, 2)]
    with connect(daemon) as sock:
        head = POST + b"Content-Length: %d\r\n"
        sent = b"".join(
            head % len(body) + ending + b"\r\n" + body
            for body, ending in zip(bodies, (b"", b"Connection: close\r\n"), strict=True)
        )
        for start in range(0, len(sent), 1 + len(sent) // 7):
            sock.sendall(sent[start : start + 1 + len(sent) // 7])
            time.sleep(0.01)
        answer = read_all(sock)
    assert answer.count(b"HTTP/1.1 200 OK") == 2


def test_an_upgrade_is_not_followed(daemon):
    with connect(daemon) as sock:
        sock.sendall(
            b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
            b"Upgrade: websocket\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        answer = read_all(sock)
    assert status_of(answer) == 200
    assert b"101" not in answer.splitlines()[0]


@pytest.mark.parametrize(
    "path",
    [
        "/static/../../../../../../etc/passwd",
        "/static/..%2f..%2f..%2fetc%2fpasswd",
        "/static/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/static//etc/passwd",
        "/static/....//....//etc/passwd",
        "/dashboards/..%2f..%2fetc%2fpasswd",
        "/v1/entry/..%2f..%2fetc%2fpasswd",
        "/v2/models/..%2f..%2fetc/passwd",
        "/v2/models/cloud/versions/..%2f..%2f/ready",
        "/v1/agents/%00",
        "/%ff%fe",
    ],
)
def test_paths_do_not_lead_out(daemon, path):
    with connect(daemon) as sock:
        line = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        sock.sendall(line.encode())
        answer = read_all(sock)
    assert status_of(answer) in (400, 404), answer
    assert b"root:" not in answer


def test_connections_of_one_peer_are_bounded_and_free_again(daemon):
    held = [connect(daemon) for _ in range(30)]
    try:
        time.sleep(0.1)
        with connect(daemon) as sock:
            answer = read_all(sock)
        assert status_of(answer) == 503
        assert problem_of(answer)["retryable"] is True
    finally:
        for sock in held:
            sock.close()
    time.sleep(0.1)
    assert daemon.get("/v2/health/live") == {"live": True}


def test_an_honest_client_is_served_beside_many_slow_ones(daemon):
    slow = [connect(daemon) for _ in range(25)]
    for index, sock in enumerate(slow):
        sock.sendall(POST if index % 2 else POST + b"Content-Length: 9000\r\n\r\nabc")
    taken = []
    for seq in range(20):
        began = time.monotonic()
        status, _, _ = daemon.call("POST", "/v1/decide/cloud", frames.encode_request(request(5)))
        taken.append(time.monotonic() - began)
        assert status == 200, seq
    for sock in slow:
        assert status_of(read_all(sock)) == 408
        sock.close()
    assert sorted(taken)[10] < 0.1


def test_memory_stays_flat_under_attack(daemon):
    def resident():
        lines = Path(f"/proc/{daemon.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))

    def flood():
        with connect(daemon) as sock:
            sock.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n")
            for _ in range(200):
                if not send(sock, b"10000\r\n" + b"a" * 0x10000 + b"\r\n"):
                    break

    flood()
    before = resident()
    threads = [threading.Thread(target=flood) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert resident() - before < 20_000  # kB; eight times 13 MB were sent
