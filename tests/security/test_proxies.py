"""What a proxy says of its client is believed of the operator's proxies alone."""

import socket
import tempfile
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
import requests

from hugging_llama.dialects.caller import UNKNOWN, caller_address
from hugging_llama.neutral.callers import ANONYMOUS, Caller
from hugging_llama_config.env import ConfigError, load_settings
from hugging_llama_config.keys import add_key, new_key
from tests.functional.conftest import MakeClient
from tests.hub_cache import MINILM
from tests.live_server import LiveServer, stop
from tests.process.servers import GUNICORN, HERE
from tests.process.socket_activation import start_with

US, PROXY, OTHER, CLIENT = "127.0.0.1", "10.0.0.1", "10.0.0.2", "203.0.113.9"
UNREADABLE = (
    "evil", "unknown", "_hidden", f"{CLIENT}, <script>", f"{PROXY}, unknown", f"{CLIENT},,", ",", "[]:1",
    "fe80::1%" + "a" * 3000, "fe80::1%eth0", "[fe80::1%eth0]:443", f"{CLIENT}%eth0",
)  # fmt: skip


@pytest.mark.parametrize(
    ("trusted", "peer", "named", "found"),
    [
        ((), PROXY, CLIENT, PROXY),
        ((), US, CLIENT, US),
        ((PROXY,), PROXY, CLIENT, CLIENT),
        ((PROXY,), OTHER, CLIENT, OTHER),
        ((PROXY,), PROXY, "", PROXY),
        ((PROXY,), PROXY, f"198.51.100.1, {CLIENT}", CLIENT),  # the first is what the client itself wrote
        (("10.0.0.0/8",), PROXY, f"198.51.100.1, {CLIENT}, {OTHER}", CLIENT),
        (("10.0.0.0/8",), PROXY, OTHER, OTHER),
        ((PROXY,), PROXY, " ", PROXY),
        ((PROXY,), PROXY, f"{CLIENT}:5123", CLIENT),
        ((PROXY,), PROXY, "[2001:db8::9]:443", "2001:db8::9"),
        ((PROXY,), PROXY, "[2001:db8::9]", "2001:db8::9"),
        ((PROXY,), PROXY, f'"{CLIENT}"', CLIENT),
        ((PROXY,), PROXY, '"[2001:db8::9]:443"', "2001:db8::9"),
        ((PROXY, OTHER), PROXY, f"{CLIENT}, {OTHER}:80", CLIENT),
        *(((PROXY,), PROXY, named, UNKNOWN) for named in UNREADABLE),
        *(((), PROXY, named, PROXY) for named in UNREADABLE),
        ((PROXY,), f"::ffff:{PROXY}", CLIENT, CLIENT),
        (("fd00::/8",), "fd00::1", "2001:db8::9", "2001:db8::9"),
        (("*",), PROXY, f"{CLIENT}, {OTHER}", CLIENT),
        ((PROXY,), "", CLIENT, ""),
    ],
)
def test_whose_word_counts(
    make_client: MakeClient, trusted: tuple[str, ...], peer: str, named: str, found: str
) -> None:
    client, _ = make_client()
    with client.application.test_request_context(
        "/", headers={"X-Forwarded-For": named}, environ_overrides={"REMOTE_ADDR": peer}
    ):
        assert caller_address(trusted) == found


@pytest.mark.parametrize(
    ("trusted", "peer", "named", "user", "found"),
    [
        ((PROXY,), PROXY, "", "6f8b2c6e", "6f8b2c6e"),  # Open WebUI itself
        ((PROXY, OTHER), PROXY, OTHER, "6f8b2c6e", "6f8b2c6e"),  # behind a proxy that is trusted as well
        ((PROXY,), PROXY, CLIENT, "6f8b2c6e", ""),  # whoever comes through the proxy
        ((PROXY,), PROXY, f"{PROXY}, {CLIENT}", "6f8b2c6e", ""),
        ((PROXY,), PROXY, f"{CLIENT}:5123", "6f8b2c6e", ""),
        ((PROXY,), PROXY, f"{PROXY}, unknown", "6f8b2c6e", ""),
        ((PROXY, OTHER), PROXY, f"{OTHER}:5123", "6f8b2c6e", "6f8b2c6e"),
        ((PROXY,), OTHER, "", "6f8b2c6e", ""),
        ((), US, "", "6f8b2c6e", ""),
        ((PROXY,), PROXY, "", "", ""),
        ((PROXY,), PROXY, "", "x" * 101, f"sha256:{sha256(b'x' * 101).hexdigest()}"),
        ((PROXY,), PROXY, "", "a b", f"sha256:{sha256(b'a b').hexdigest()}"),
        ((PROXY,), OTHER, "", "a b", ""),
        (("*",), OTHER, CLIENT, "6f8b2c6e", "6f8b2c6e"),
    ],
)
@pytest.mark.parametrize("has_key", [True, False])
def test_users_take_turns_where_a_trusted_address_names_them(
    make_client: MakeClient,
    tmp_path: Path,
    trusted: tuple[str, ...],
    peer: str,
    named: str,
    user: str,
    found: str,
    has_key: bool,
) -> None:
    key, secret = new_key("webui", roles=("use",), priority=3)
    path = str(tmp_path / "keys.json")
    add_key(path, key)
    client, engine = make_client(trusted_proxies=trusted, keys_file=path if has_key else "")
    headers = {"X-OpenWebUI-User-Id": user, "X-Forwarded-For": named, "x-api-key": secret}
    for path, body in (
        ("/api/chat", {"messages": [{"role": "user", "content": "Hi"}], "stream": False}),
        ("/v1/embeddings", {"input": "x"}),
        ("/api/tokenize", {"content": "x"}),
    ):
        model = MINILM if "embed" in path else "demo"
        answer = client.post(
            path, json={"model": model, **body}, headers=headers, environ_overrides={"REMOTE_ADDR": peer}
        )
        assert answer.status_code == 200
    owner = Caller(key.id, 3) if has_key else ANONYMOUS
    asked_for = replace(owner, id=f"{owner.id or 'anonymous'}/{found}") if found else owner
    assert {request.caller for request in engine.requests} == {asked_for}


def test_nobody_is_trusted_unless_the_operator_says_so(server: LiveServer) -> None:
    """Not even on this machine, where gunicorn's own default is to trust: a redirect would show it."""
    headers = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil.com", "Script-Name": "/evil"}
    found = requests.get(f"{server.url}/api/tags/", headers=headers, allow_redirects=False, timeout=60)
    assert (found.status_code, found.headers["Location"]) == (301, "/api/tags")
    assert load_settings(environ={}).trusted_proxies == ()


@pytest.mark.parametrize(("trusted", "status"), [("", 404), ("*", 200)])
def test_peers_of_a_unix_socket_are_not_trusted_by_themselves(tmp_path: Path, trusted: str, status: int) -> None:
    """They have no address to go by, and gunicorn's own default believes them all."""
    command = [*GUNICORN, "-c", str(HERE / "scripted_gunicorn.py"), "--chdir", str(HERE), "tiny_app:app"]
    with (
        tempfile.TemporaryDirectory(prefix="hl-") as folder,  # a socket's path may have 107 bytes only
        socket.socket(socket.AF_UNIX) as listener,
        (tmp_path / "log").open("wb") as log,
    ):
        listener.bind(path := f"{folder}/socket")
        listener.listen()
        process = start_with(listener, tmp_path, folder, command, log, trusted_proxies=trusted, workers="1")
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(60)
                client.connect(path)
                client.sendall(b"GET /evil/health HTTP/1.1\r\nHost: localhost\r\nSCRIPT_NAME: /evil\r\n\r\n")
                assert client.recv(4096).startswith(f"HTTP/1.1 {status} ".encode())
        finally:
            stop(process)


@pytest.mark.parametrize("text", ["proxy", "10.0.0.1/8", "10.0.0.0/99", "10.0.0.1:80"])
def test_what_is_no_address_stops_the_start(text: str) -> None:
    with pytest.raises(ConfigError, match="HUGGING_LLAMA_TRUSTED_PROXIES"):
        load_settings(environ={"HUGGING_LLAMA_TRUSTED_PROXIES": text})
    assert load_settings(environ={"HUGGING_LLAMA_TRUSTED_PROXIES": "::1, 10.0.0.0/8"}).trusted_proxies == (
        "::1",
        "10.0.0.0/8",
    )
