"""RequestAuthentication: a request without token passes, one with a broken token gets 401, any other token is open.

Whether a well-formed token is valid depends on keys and the clock, which objects do not hold. Reference: envoy
``source/extensions/filters/http/jwt_authn`` and the status texts of jwt_verify_lib.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from deadhop.hops.mesh.decode import Meta, dig, labels, meta_of, rows, selector_matches, text

BAD_FORM = "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections"


class RequestAuthentication(msgspec.Struct, frozen=True):
    """One policy: where it looks for tokens, as ``(header, prefix)``."""

    meta: Meta
    selector: Mapping[str, str]
    places: tuple[tuple[str, str], ...]


def compile_request_authentication(doc: Mapping[str, Any]) -> RequestAuthentication:
    """A RequestAuthentication document. Without ``fromHeaders`` a token is a Bearer in Authorization."""
    places: list[tuple[str, str]] = []
    for rule in rows(dig(doc, "spec", "jwtRules")):
        own = [(text(h.get("name")).lower(), text(h.get("prefix"))) for h in rows(rule.get("fromHeaders"))]
        places += own or [("authorization", "Bearer ")]
    return RequestAuthentication(
        meta_of(doc), labels(dig(doc, "spec", "selector", "matchLabels")), tuple(places)
    )


class RequestPolicies:
    """All RequestAuthentication objects, ready to ask."""

    def __init__(self, policies: Iterable[RequestAuthentication], root_namespace: str) -> None:
        self.root = root_namespace
        self.by_namespace: dict[str, list[RequestAuthentication]] = {}
        for policy in sorted(policies, key=lambda p: p.meta.order):
            self.by_namespace.setdefault(policy.meta.namespace, []).append(policy)

    def judge(
        self, namespace: str, pod_labels: Mapping[str, str], headers: Mapping[str, str]
    ) -> tuple[Meta, bool] | None:
        """The policy that finds a token, and whether it is certain to refuse it; None where no token is looked at."""
        for space in dict.fromkeys((self.root, namespace)):
            for policy in self.by_namespace.get(space, ()):
                if not selector_matches(policy.selector, pod_labels):
                    continue
                for header, prefix in policy.places:
                    value = headers.get(header, "")
                    if value.startswith(prefix) and value:
                        return policy.meta, value.removeprefix(prefix).count(".") != 2
        return None
