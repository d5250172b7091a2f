"""Who may do what: scopes on every route, tokens, origins, certificates, the admin socket."""

from __future__ import annotations

import hashlib
import json
import re
import ssl
import stat
import subprocess
from http.client import HTTPSConnection

import pytest
from daemon_process import running, unix_call
from hypothesis import given
from hypothesis import strategies as st
from serving import make_bundle, request

from fairlead.platform.config import load
from fairlead.platform.daemon.access import ADMIN, LOCAL, Denied, Doorkeeper, required
from fairlead.platform.daemon.assembly import verify
from fairlead.platform.daemon.settings import ServeConfig
from fairlead.platform.daemon.tokens import Keyring, Token, add_token, read_tokens
from fairlead.platform.files import UserError
from fairlead.platform.wire import frames

READ, INFER, ADMINS = frozenset({"read"}), frozenset({"infer"}), frozenset({"admin"})


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("bundle") / "b").folder


@pytest.fixture(scope="module")
def guarded(bundle, tmp_path_factory):
    """A daemon with one token for each scope; its admin socket is on."""
    folder = tmp_path_factory.mktemp("guarded")
    file = folder / "tokens"
    tokens = {
        scope: add_token(file, f"for-{scope}", [scope]) for scope in ("read", "infer", "admin")
    }
    with running(bundle, folder, [f"security.tokens={file}"]) as daemon:
        yield daemon, tokens
        assert daemon.process.poll() is None
        text = daemon.text
    for token in tokens.values():
        assert token not in text
        assert hashlib.sha256(token.encode()).hexdigest() not in text


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def every_route(daemon, token):
    """(method, path) of every documented route, and of those that the document leaves out."""
    status, _, body = daemon.call("GET", "/openapi.json", headers=bearer(token))
    assert status == 200
    found = []
    for template, item in json.loads(body)["paths"].items():
        path = (
            template.replace("{domain}", "cloud")
            .replace("{version}", "0" * 12)
            .replace("{id}", "cloud-00000000-0")
        )
        found += [(m.upper(), path) for m in item if m in ("get", "post", "put", "delete")]
    extra = [
        ("GET", "/"),
        ("GET", "/page/cloud/live"),
        ("GET", "/static/page.css"),
        ("GET", "/dashboards/fairlead-fleet"),
        ("POST", "/v1/extender/cloud/filter"),
        ("POST", "/v1/extender/cloud/prioritize"),
        ("POST", "/v1/extender/cloud/bind"),
        ("PUT", "/v1/cluster/cloud/nodes"),
        ("POST", "/v1/cluster/cloud/pods"),
        ("DELETE", "/v1/cluster/cloud/pods/x"),
        ("POST", "/v1/admin/cloud/fallback"),
        ("GET", "/v1/admin"),
        ("PATCH", "/v1/state"),
        ("TRACE", "/v1/state"),
        ("GET", "/nowhere"),
        ("POST", "/nowhere"),
    ]
    return found + extra


def test_every_route_needs_its_scope(guarded):
    daemon, tokens = guarded
    routes = every_route(daemon, tokens["read"])
    assert len(routes) > 25
    opened = []
    for method, path in routes:
        if path == "/v1/events":
            continue  # has no end; its own test below
        need = required(method, path)
        status, headers, body = daemon.call(method, path, b"{}" if method != "GET" else None)
        if need is None:
            opened.append(path)
            continue
        assert status == 401, (method, path, body)
        assert headers["WWW-Authenticate"] == "Bearer"
        for scope, token in tokens.items():
            status, _, body = daemon.call(
                method, path, b"{}" if method != "GET" else None, bearer(token)
            )
            if scope == need:
                assert status not in (401, 403), (method, path, scope, body)
            else:
                assert status == 403, (method, path, scope, body)
                assert json.loads(body)["code"] == "scope"
    assert sorted(opened) == ["/v2/health/live", "/v2/health/ready"]
    assert daemon.call("GET", "/v1/events")[0] == 401
    assert unix_call(daemon.admin, "POST", "/v1/admin/cloud/resume", "{}")[0] == 200


def test_what_looks_like_a_token_is_none(guarded):
    daemon, tokens = guarded
    good = tokens["read"]
    wrong = [
        f"Bearer {good[:-1]}",
        f"Bearer {good}x",
        f"Basic {good}",
        good,
        "Bearer",
        "Bearer ",
        f"Bearer {hashlib.sha256(good.encode()).hexdigest()}",
        "Bearer \x80\xff",
    ]
    for value in wrong:
        status, _, body = daemon.call("GET", "/v1/state", headers={"Authorization": value})
        assert status == 401, value
        assert good.encode() not in body
    assert daemon.call("GET", "/v1/state", headers=bearer(good))[0] == 200
    assert daemon.call("GET", f"/v1/state?token={good}")[0] == 401


def test_decisions_carry_the_name_of_the_token(guarded):
    daemon, tokens = guarded
    body = frames.encode_request(request(5, seq=1))
    status, headers, _ = daemon.call("POST", "/v1/decide/cloud", body, bearer(tokens["infer"]))
    assert status == 200
    path = f"/v1/entry/{headers['Fairlead-Decision']}"
    entry = json.loads(daemon.call("GET", path, headers=bearer(tokens["read"]))[2])
    assert entry["principal"] == "for-infer"


def test_tokens_are_read_again_on_hangup(bundle, tmp_path):
    file = tmp_path / "tokens"
    first = add_token(file, "first", ["read"])
    with running(bundle, tmp_path, [f"security.tokens={file}"]) as daemon:
        second = add_token(file, "second", ["read"])
        assert daemon.call("GET", "/v1/state", headers=bearer(second))[0] == 401
        file.write_text("\n".join(x for x in file.read_text().splitlines() if "first" not in x))
        daemon.process.send_signal(1)
        wait_for(lambda: daemon.call("GET", "/v1/state", headers=bearer(second))[0] == 200)
        assert daemon.call("GET", "/v1/state", headers=bearer(first))[0] == 401
        file.write_text("what is this\n")
        daemon.process.send_signal(1)
        wait_for(lambda: "reload refused" in daemon.text)
        assert "line 1" in daemon.text
        assert "what is this" not in daemon.text
        assert daemon.call("GET", "/v1/state", headers=bearer(second))[0] == 200


def wait_for(true, seconds=5.0):
    import time

    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.02)


def test_without_tokens_loopback_reads_and_infers_but_does_not_administer(bundle, tmp_path):
    with running(bundle, tmp_path) as daemon:
        assert daemon.call("GET", "/v1/state")[0] == 200
        body = frames.encode_request(request(5))
        assert daemon.call("POST", "/v1/decide/cloud", body)[0] == 200
        assert daemon.call("POST", "/v1/admin/cloud/fallback", b"{}")[0] == 403
        assert stat.S_IMODE(daemon.admin.stat().st_mode) == 0o600
        assert stat.S_IMODE(daemon.frames.stat().st_mode) == 0o660
        # A browser on this machine must not become somebody else's tool.
        for fields in (
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Host": "evil.example"},
            {"Host": f"evil.example:{daemon.port}"},
        ):
            assert daemon.call("POST", "/v1/decide/cloud", body, fields)[0] == 403, fields
        own = {"Origin": daemon.url, "Host": daemon.url.partition("//")[2]}
        assert daemon.call("POST", "/v1/decide/cloud", body, own)[0] == 200


def test_without_an_admin_socket_there_is_no_admin_api(bundle, tmp_path):
    file = tmp_path / "tokens"
    token = add_token(file, "boss", ["admin", "read"])
    overrides = [f"security.tokens={file}", "server.admin=''"]
    with running(bundle, tmp_path, overrides) as daemon:
        assert daemon.call("POST", "/v1/admin/cloud/fallback", b"{}", bearer(token))[0] == 404
        assert daemon.call("GET", "/v1/admin", headers=bearer(token))[0] == 404


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["server.host=0.0.0.0"], "security.tokens"),
        (["security.tls_certificate=x.pem"], "tls_key"),
        (["security.tls_client_ca=x.pem"], "tls_certificate"),
        (["security.tokens=/does/not/exist"], "cannot read token file"),
    ],
)
def test_an_open_door_is_refused_at_the_start(overrides, message):
    with pytest.raises(UserError, match=message):
        verify(load(ServeConfig, file=None, overrides=overrides), [])


def openssl(folder, *words):
    subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)


def test_client_certificates_name_the_principal(bundle, tmp_path):
    openssl(
        tmp_path, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out",
        "ca.pem", "-days", "2", "-subj", "/CN=test CA",
    )  # fmt: skip
    for name in ("localhost", "bridge-7"):
        openssl(
            tmp_path, "req", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out",
            f"{name}.csr", "-subj", f"/CN={name}",
        )  # fmt: skip
        (tmp_path / "ext").write_text(f"subjectAltName=DNS:{name}\n")
        openssl(
            tmp_path, "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
            "-CAcreateserial", "-days", "2", "-out", f"{name}.pem", "-extfile", "ext",
        )  # fmt: skip
    overrides = [
        f"security.tls_certificate={tmp_path / 'localhost.pem'}",
        f"security.tls_key={tmp_path / 'localhost.key'}",
        f"security.tls_client_ca={tmp_path / 'ca.pem'}",
    ]
    with running(bundle, tmp_path, overrides) as daemon:
        assert daemon.url.startswith("https://")
        context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
        with pytest.raises((ssl.SSLError, ConnectionError)):
            ask(daemon, context, "GET", "/v1/state")
        context.load_cert_chain(tmp_path / "bridge-7.pem", tmp_path / "bridge-7.key")
        body = frames.encode_request(request(5, seq=1))
        status, headers, _ = ask(daemon, context, "POST", "/v1/decide/cloud", body)
        assert status == 200
        _, _, text = ask(daemon, context, "GET", f"/v1/entry/{headers['Fairlead-Decision']}")
        assert json.loads(text)["principal"] == "bridge-7"
        assert ask(daemon, context, "POST", "/v1/admin/cloud/fallback", b"{}")[0] == 403


def ask(daemon, context, method, path, body=None):
    connection = HTTPSConnection("localhost", daemon.port, context=context, timeout=10)
    try:
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


# The parts by themselves.


def test_what_no_rule_knows_needs_more_than_reading():
    assert required("GET", "/v2/health/ready") is None
    assert required("POST", "/v2/health/ready") == "infer"
    assert required("GET", "/anything") == "read"
    assert required("BREW", "/anything") == "infer"
    for path in ("/v1/admin", "/v1/admin/", "/v1/admin/cloud/load"):
        for method in ("GET", "POST", "OPTIONS"):
            assert required(method, path) == "admin"
    assert required("GET", "/v1/administrator") == "read"


def test_strangers_are_refused_even_if_they_reach_the_socket():
    door = Doorkeeper()
    assert door.admit({"client": ("127.0.0.1", 5)}, {}, "infer") is LOCAL
    assert door.admit({"client": None}, {}, "infer") is LOCAL
    for address in ("10.0.0.1", "127.0.0.1.evil", "::ffff:10.0.0.1"):
        with pytest.raises(Denied):
            door.admit({"client": (address, 5)}, {}, "read")
    with pytest.raises(Denied):
        door.admit({"client": ("127.0.0.1", 5)}, {}, "admin")
    assert Doorkeeper(trusted=True).admit({"client": None}, {}, "admin") is ADMIN
    with pytest.raises(Denied):
        Doorkeeper(tokens=True).admit({"client": ("127.0.0.1", 5)}, {}, "read")


def test_the_token_file_holds_hashes_only_and_is_private(tmp_path):
    file = tmp_path / "tokens"
    token = add_token(file, "a", ["read", "infer"])
    text = file.read_text()
    assert token not in text
    assert hashlib.sha256(token.encode()).hexdigest() in text
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert re.fullmatch(r"fl_[A-Za-z0-9_-]{43}", token)
    with pytest.raises(UserError, match="has a token named"):
        add_token(file, "a", ["read"])
    with pytest.raises(UserError, match="scope 'root'"):
        add_token(file, "b", ["root"])
    with pytest.raises(UserError, match="token name"):
        add_token(file, "b c", ["read"])
    file.chmod(0o644)
    with pytest.raises(UserError, match="open to every user"):
        read_tokens(file)


@given(st.text(), st.text())
def test_only_the_token_itself_is_found(token, other):
    digest = hashlib.sha256(token.encode()).hexdigest()
    keyring = Keyring((Token("x", READ, "0" * 64), Token("a", INFER, digest)))
    found = keyring.find(other.encode())
    assert (found is not None) == (token == other)
    assert keyring.find(token.encode()).scopes == INFER


@pytest.mark.parametrize(
    "text", ["a read", "a read 00", "a,b read " + "0" * 64, f"a root {'0' * 64}", "\x00 \x01 \x02"]
)
def test_bad_lines_are_named_by_number(tmp_path, text):
    file = tmp_path / "tokens"
    file.write_text(f"# comment\n\n{text}\n")
    file.chmod(0o600)
    with pytest.raises(UserError, match="line 3"):
        read_tokens(file)
