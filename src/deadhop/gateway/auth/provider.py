"""An OpenID Connect provider as its relying party sees it: discovery, code exchange, and what an ID token must be.

OpenID Connect Core §3.1 with PKCE (RFC 7636, S256 only). The protocol's requests are Authlib's, the tokens joserfc's.
"""

from __future__ import annotations

import ssl
from typing import Any

import httpx
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.httpx_client import AsyncOAuth2Client
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from deadhop.gateway.config import Oidc

#: Signatures of an ID token that are accepted: public keys only.
SIGNATURES = ("RS256", "PS256", "ES256", "ES384", "EdDSA", "Ed25519", "RS384", "RS512", "PS384", "PS512")
PATIENCE = 10.0
#: Seconds by which the clocks of provider and gateway may differ.
LEEWAY = 60


class ProviderError(Exception):
    """The provider cannot be used, or what it said does not hold. The text is for the log and the person."""


class Provider:
    """One provider. What it publishes is fetched when it is first needed, its keys again when one is unknown."""

    def __init__(self, settings: Oidc, redirect: str) -> None:
        self.settings, self.redirect = settings, redirect
        self._metadata: dict[str, Any] = {}
        self._keys: KeySet | None = None
        self._tls = ssl.create_default_context(cafile=str(settings.ca)) if settings.ca else True
        self._secret = settings.client_secret.read_text().strip() if settings.client_secret else None
        self._http = httpx.AsyncClient(verify=self._tls, timeout=PATIENCE, trust_env=False)

    async def metadata(self) -> dict[str, Any]:
        """The discovery document (OpenID Connect Discovery §4)."""
        if not self._metadata:
            issuer = self.settings.issuer
            found = await self._get(issuer.rstrip("/") + "/.well-known/openid-configuration")
            if found.get("issuer") != issuer:
                raise ProviderError(f"the provider calls itself {found.get('issuer')!r}, not {issuer!r}")
            needed = ("authorization_endpoint", "token_endpoint", "jwks_uri")
            if lacking := [n for n in needed if not isinstance(found.get(n), str)]:
                raise ProviderError(f"the provider's metadata lacks {', '.join(lacking)}")
            self._metadata = found
        return self._metadata

    async def _get(self, url: str, token: str = "") -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            answer = await self._http.get(url, headers=headers)
            answer.raise_for_status()
            value = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise ProviderError(f"{url}: {type(error).__name__}: {error}") from None
        if not isinstance(value, dict):
            raise ProviderError(f"{url}: not a JSON object")
        return value

    def _client(self, metadata: dict[str, Any]) -> Any:
        methods = metadata.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        basic = "client_secret_basic" if "client_secret_basic" in methods else "client_secret_post"
        return AsyncOAuth2Client(
            self.settings.client_id,
            self._secret,
            token_endpoint_auth_method=basic if self._secret else "none",
            redirect_uri=self.redirect,
            scope=" ".join(self.settings.scopes),
            code_challenge_method="S256",
            verify=self._tls,
            timeout=PATIENCE,
            trust_env=False,
        )

    async def authorization(self, state: str, nonce: str, verifier: str) -> str:
        """The address a browser is sent to."""
        metadata = await self.metadata()
        async with self._client(metadata) as client:
            url, _ = client.create_authorization_url(
                metadata["authorization_endpoint"], state=state, code_verifier=verifier, nonce=nonce
            )
        return str(url)

    async def claims(self, code: str, nonce: str, verifier: str) -> dict[str, Any]:
        """What a code is worth: the validated claims, those of userinfo behind them."""
        metadata = await self.metadata()
        try:
            async with self._client(metadata) as client:
                token = await client.fetch_token(
                    metadata["token_endpoint"], code=code, code_verifier=verifier
                )
        except (httpx.HTTPError, AuthlibBaseError, ValueError) as error:
            raise ProviderError(f"the code was not exchanged: {error}") from None
        claims = await self._validated(str(token.get("id_token") or ""), nonce)
        endpoint = metadata.get("userinfo_endpoint")
        if endpoint and self.settings.groups_claim not in claims and token.get("access_token"):
            told = await self._get(str(endpoint), str(token["access_token"]))
            if told.get("sub") != claims["sub"]:
                raise ProviderError("userinfo speaks of somebody else")
            claims = {**told, **claims}
        return claims

    async def _validated(self, token: str, nonce: str) -> dict[str, Any]:
        metadata = await self.metadata()
        offered = metadata.get("id_token_signing_alg_values_supported", ["RS256"])
        algorithms = [a for a in SIGNATURES if a in offered]
        for again in (False, True):
            if self._keys is None or again:
                self._keys = KeySet.import_key_set(await self._get(str(metadata["jwks_uri"])))  # type: ignore[arg-type]
            try:
                claims = jwt.decode(token, self._keys, algorithms=algorithms).claims
                break
            except (JoseError, ValueError) as error:
                if again:
                    raise ProviderError(f"the ID token's signature: {error}") from None
        rules = jwt.JWTClaimsRegistry(
            leeway=LEEWAY,
            iss={"essential": True, "value": self.settings.issuer},
            aud={"essential": True, "value": self.settings.client_id},
            exp={"essential": True},
            iat={"essential": True},
            sub={"essential": True},
            nonce={"essential": True, "value": nonce},
        )
        try:
            rules.validate(claims)
        except JoseError as error:
            raise ProviderError(f"the ID token: {error}") from None
        if isinstance(claims["aud"], list) and len(claims["aud"]) > 1 and claims.get("azp") != self.settings.client_id:  # fmt: skip
            raise ProviderError("the ID token was made for another client")
        return dict(claims)

    async def close(self) -> None:
        await self._http.aclose()
