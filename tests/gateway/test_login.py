"""Logging in at a real, certified OpenID Connect provider on loopback: by a client that follows redirects, and in Chromium."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway import chromium
from gateway.rig import Running, Upstream, gateway

pytest.importorskip("httptools", reason="deadhop[gateway] is not installed")
httpx = pytest.importorskip("httpx", reason="deadhop[gateway] is not installed")

PROVIDER = Path(__file__).parent / "provider"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The provider's package as its lock file says."""
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip("no node and npm")
    folder = tmp_path_factory.mktemp("provider")
    for name in ("package.json", "package-lock.json", "provider.mjs"):
        shutil.copy(PROVIDER / name, folder)
    command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"npm ci: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else 'failed'}")
    return folder


class World:
    """The provider, the gateway in front of an application, and what the application got."""

    def __init__(self, running: Running, upstream: Upstream, url: str) -> None:
        self.running, self.upstream, self.url = running, upstream, url


@pytest.fixture
def world(installed: Path, tmp_path: Path) -> Iterator[World]:
    port, public = free_port(), free_port()
    url = f"http://127.0.0.1:{public}"
    (tmp_path / "session").write_text("0123456789abcdef0123456789abcdef\n")
    (tmp_path / "client").write_text("a-secret-of-the-tests\n")
    auth = {
        "session": {"secret": "session"},
        "oidc": {
            "issuer": f"http://127.0.0.1:{port}",
            "client_id": "deadhop",
            "client_secret": "client",
            "url": url,
        },
    }
    routes = [
        {"path": "/open", "upstream": "app"},
        {"upstream": "app", "require": "anyone", "set": {"X-User": {"identity": "subject"}, "X-Mail": {"identity": "email"}, "X-Groups": {"identity": "groups"}}},
        {"path": "/admin", "upstream": "app", "require": ["admins"]},
    ]  # fmt: skip
    provider = subprocess.Popen(
        ["node", "provider.mjs", str(port), f"{url}/_gateway/callback"],
        cwd=installed,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert provider.stdout is not None
        assert b"ready" in provider.stdout.readline()
        upstream = Upstream()
        with gateway(tmp_path, upstream, listen=f"127.0.0.1:{public}", auth=auth, routes=routes) as running:
            yield World(running, upstream, url)
    finally:
        provider.kill()
        provider.wait()


HTML = {"Accept": "text/html,*/*"}


def form(page: Any) -> tuple[str, dict[str, str]]:
    """Where a page's first form goes, and its hidden fields."""
    action = re.search(r'<form[^>]*action="([^"]+)"', page.text)
    assert action, page.text
    fields = re.findall(r'<input[^>]*type="hidden"[^>]*name="([^"]+)"[^>]*value="([^"]*)"', page.text)
    return str(page.url.join(action[1])), dict(fields)


def log_in(client: Any, url: str, who: str) -> Any:
    page = client.get(url, headers=HTML)
    action, hidden = form(page)
    page = client.post(action, data={**hidden, "login": who, "password": "any"}, headers=HTML)
    action, hidden = form(page)
    return client.post(action, data=hidden, headers=HTML)


def test_code_flow_session_groups_and_logout(world: World) -> None:
    with httpx.Client(follow_redirects=True, trust_env=False) as client:
        assert client.get(world.url + "/open", headers=HTML).text == "ok"
        assert b"X-User" not in world.upstream.octets
        assert client.get(world.url + "/x").status_code == 401  # a program gets no login page
        page = log_in(client, world.url + "/reports?a=b", "alice")
        assert str(page.url) == world.url + "/reports?a=b"
        assert page.text == "ok"
        got = world.upstream.octets
        assert b"X-User: alice\r\n" in got
        assert b"X-Mail: alice@example.com\r\n" in got
        assert b"X-Groups: admins,ops\r\n" in got
        assert b"deadhop_session" not in got
        assert client.get(world.url + "/admin/x").status_code == 200
        session = client.cookies["deadhop_session"]
        client.get(world.url + "/_gateway/logout", follow_redirects=False)
        assert "deadhop_session" not in client.cookies
        assert client.get(world.url + "/reports").status_code == 401
    log = world.running.log.read_text()
    assert session not in log
    assert "code=" not in log or "code=<redacted>" in log
    assert '"identity":"alice"' in log


def test_a_group_that_is_missing_is_403(world: World) -> None:
    with httpx.Client(follow_redirects=True, trust_env=False) as client:
        assert log_in(client, world.url + "/", "bob").status_code == 200
        assert client.get(world.url + "/admin", headers=HTML).status_code == 403
        assert b"/admin" not in world.upstream.octets


def test_state_code_and_cookie_are_each_for_one_use(world: World) -> None:
    with httpx.Client(trust_env=False) as client:
        begun = client.get(world.url + "/", headers=HTML)
        assert begun.status_code == 302
        location = httpx.URL(begun.headers["location"])
        assert location.params["code_challenge_method"] == "S256"
        assert len(location.params["nonce"]) >= 32
        callback = world.url + "/_gateway/callback"
        state = location.params["state"]
        # A state that this browser did not begin with, none at all, two of them: refused before the provider is asked.
        for query in ("code=x&state=forged", "code=x", f"code=x&state={state}&state={state}"):
            assert client.get(f"{callback}?{query}").status_code == 400
        assert client.get(f"{callback}?code=x&state={state}", headers={"Cookie": ""}).status_code == 400
        # The right state and a code that the provider never gave.
        wrong = client.get(f"{callback}?code=x&state={state}")
        assert wrong.status_code == 502
        assert "the code was not exchanged" in wrong.text
        # A login cookie is no session, and a changed session is none.
        login = begun.cookies["deadhop_session_login"]
        head, body, signature = login.split(".")
        for forged in (
            login,
            f"{head}.{body}.{signature[::-1]}",
            "eyJhbGciOiJub25lIn0.eyJ1c2UiOiJzZXNzaW9uIn0.",
        ):
            cookie = {"Cookie": f"deadhop_session={forged}"}
            assert client.get(world.url + "/", headers=cookie).status_code == 401
        cookie = {"Cookie": f"deadhop_session_login={login}"}
        again = client.get(f"{callback}?error=access_denied&state={state}", headers=cookie)
        assert again.status_code == 403
    assert world.upstream.octets == b""


def test_in_a_real_browser(world: World, tmp_path: Path) -> None:
    if not chromium.find():
        pytest.skip("no Chromium")
    browser = chromium.Browser(tmp_path / "profile")
    try:
        browser.open(world.url + "/reports")
        assert "oidc" in browser.run("document.documentElement.outerHTML").lower() or browser.run("!!document.querySelector('[name=login]')")  # fmt: skip
        browser.submit({"login": "alice", "password": "any"})
        browser.submit({})
        assert browser.run("location.href") == world.url + "/reports"
        assert browser.run("document.body.innerText") == "ok"
        assert browser.run("document.cookie") == ""  # HttpOnly: no script reads the session
        browser.open(world.url + "/admin")
        assert browser.run("document.body.innerText") == "ok"
    finally:
        browser.close()
    assert b"X-User: alice\r\n" in world.upstream.octets
