"""Logging in by code flow, and the session that follows; the gateway's own pages below ``/_gateway/``.

State, nonce and PKCE verifier travel in a signed cookie of ten minutes, so that any replica can finish what another
began; the session is another one. Nothing is kept in the process.
"""

from __future__ import annotations

import secrets
from hmac import compare_digest
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from deadhop.gateway.auth.cookies import Cookies, read
from deadhop.gateway.auth.identity import Identity, Reply
from deadhop.gateway.auth.provider import Provider, ProviderError
from deadhop.gateway.config import Config
from deadhop.gateway.inbound import Head
from deadhop.gateway.outbound import Sender

CALLBACK, LOGOUT = "/_gateway/callback", "/_gateway/logout"
LOGIN_SECONDS = 600.0
#: A cookie may have 4096 octets (RFC 6265 §6.1); beyond, groups that no rule names are left out.
COOKIE = 3800


class Login:
    """The relying party of one provider, and its sessions."""

    def __init__(self, config: Config) -> None:
        oidc, session = config.auth.oidc, config.auth.session
        assert oidc is not None
        assert session is not None
        self._url = oidc.url.rstrip("/")
        self._host = (urlsplit(oidc.url).hostname or "").lower()
        self._provider = Provider(oidc, self._url + CALLBACK)
        self._groups = oidc.groups_claim
        self._lifetime = session.lifetime
        self._cookies = Cookies(session.secret, session.cookie, oidc.url.startswith("https:"))
        self._login = self._cookies.name + "_login"
        self._named = {g for r in config.routes if isinstance(r.require, tuple) for g in r.require}

    @property
    def cookie(self) -> str:
        """What the gateway's cookies' names begin with."""
        return self._cookies.name

    def mine(self, head: Head) -> bool:
        """Is this the host on which browsers log in?"""
        return head.host == self._host

    def session(self, head: Head) -> Identity | None:
        """Who a request's session says is asking."""
        value = read(head.fields, self._cookies.name)
        claims = self._cookies.opened("session", value) if value else None
        if not claims:
            return None
        return Identity(
            str(claims.get("sub", "")),
            str(claims.get("email", "")),
            str(claims.get("name", "")),
            tuple(str(g) for g in claims.get("groups", ())),
        )

    async def begin(self, head: Head, sender: Sender) -> Reply:  # noqa: ARG002 - the sender may come to matter
        """To the provider."""
        if not self.mine(head):
            return Reply(401, "unauthenticated", f"log in at {self._url}\n".encode())
        state, nonce, verifier = (secrets.token_urlsafe(48) for _ in range(3))
        try:
            url = await self._provider.authorization(state, nonce, verifier)
        except ProviderError as error:
            return Reply(502, "provider", f"the identity provider: {error}\n".encode())
        kept = {"state": state, "nonce": nonce, "verifier": verifier, "to": head.target.decode("latin-1")}
        cookie = self._cookies.set(
            self._login, self._cookies.signed("login", kept, LOGIN_SECONDS), LOGIN_SECONDS
        )
        return Reply(302, "login", b"", ((b"Location", url.encode()), cookie))

    async def answer(self, head: Head, path: str) -> Reply:
        """The gateway's own pages."""
        query = parse_qs(head.target.partition(b"?")[2].decode("latin-1"))
        if path == CALLBACK and head.method == b"GET":
            return await self._finish(head, query)
        if path == LOGOUT and head.method in (b"GET", b"POST"):
            return await self._logout()
        return Reply(404, "no-route", b"there are /_gateway/callback and /_gateway/logout\n")

    async def _finish(self, head: Head, query: dict[str, list[str]]) -> Reply:
        def said(name: str) -> str:
            values = query.get(name, [])
            return values[0] if len(values) == 1 else ""

        kept = self._cookies.opened("login", read(head.fields, self._login))
        if not kept or not compare_digest(kept["state"].encode(), said("state").encode()):
            return Reply(
                400, "login-state", b"this login was not begun here, or took too long: open the page again\n"
            )
        gone = self._cookies.set(self._login, "", 0)
        if said("error") or not said("code"):
            text = f"the identity provider says: {said('error') or 'no code'}\n"
            return Reply(403, "login-denied", _plain(text), (gone,))
        try:
            metadata = await self._provider.metadata()
            if said("iss") and said("iss") != metadata["issuer"]:  # RFC 9207: another provider's answer
                raise ProviderError("the answer comes from another provider")
            claims = await self._provider.claims(said("code"), kept["nonce"], kept["verifier"])
        except ProviderError as error:
            return Reply(502, "provider", _plain(f"the identity provider: {error}\n"), (gone,))
        session = self._cookies.set(self._cookies.name, self._session(claims), self._lifetime)
        to = kept["to"] if _local(kept["to"]) else "/"
        return Reply(302, "logged-in", b"", ((b"Location", to.encode("latin-1")), session, gone))

    def _session(self, claims: dict[str, Any]) -> str:
        told = claims.get(self._groups)
        groups = [str(g) for g in told] if isinstance(told, list) else [str(told)] if told else []
        who = {"sub": str(claims["sub"]), **{k: str(claims[k]) for k in ("email", "name") if claims.get(k)}}
        value = self._cookies.signed("session", {**who, "groups": groups}, self._lifetime)
        if len(value) > COOKIE:
            groups = [g for g in groups if g in self._named]
            value = self._cookies.signed("session", {**who, "groups": groups}, self._lifetime)
        return value

    async def _logout(self) -> Reply:
        gone = self._cookies.set(self._cookies.name, "", 0)
        try:
            end = (await self._provider.metadata()).get("end_session_endpoint")
        except ProviderError:
            end = None
        if not end:
            return Reply(200, "logged-out", b"logged out\n", (gone,))
        query = urlencode({"client_id": self._provider.settings.client_id})
        return Reply(302, "logged-out", b"", ((b"Location", f"{end}?{query}".encode()), gone))

    async def close(self) -> None:
        await self._provider.close()


def _local(path: str) -> bool:
    """Is this a path of this host, and for no browser another host's (``//host``, ``/\\host``)?"""
    return path.startswith("/") and not path.startswith(("//", "/\\")) and "\\" not in path


def _plain(text: str) -> bytes:
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text).encode()
