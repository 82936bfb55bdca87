"""Which mutual-TLS mode a workload's sidecar demands on a port.

Port level of the chosen workload policy, then its own mode, then the namespace's, then the mesh's, then
PERMISSIVE; UNSET inherits; of several policies at one scope the oldest counts. Reference: istio
``pilot/pkg/security/authn/policy_applier.go`` (``ComposePeerAuthentication``) and
``pilot/pkg/model/authentication.go``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

import msgspec

from deadhop.hops.mesh.decode import Meta, dig, labels, meta_of, port_number, selector_matches, table, text


class Mode(StrEnum):
    """A server's mutual-TLS mode."""

    STRICT = "STRICT"
    PERMISSIVE = "PERMISSIVE"
    DISABLE = "DISABLE"
    UNSET = "UNSET"


class PeerAuthentication(msgspec.Struct, frozen=True):
    """One policy. An empty selector selects the whole namespace (the mesh, in the root namespace)."""

    meta: Meta
    selector: Mapping[str, str]
    mode: Mode
    ports: Mapping[int, Mode]


class ServerMode(msgspec.Struct, frozen=True):
    """The effective mode and the policy that decided it (None: Istio's default)."""

    mode: Mode
    decided_by: Meta | None
    level: str


def _mode(value: object) -> Mode:
    name = text(value)
    return Mode(name) if name in Mode.__members__ else Mode.UNSET


def compile_peer_authentication(doc: Mapping[str, Any]) -> PeerAuthentication:
    """A PeerAuthentication document."""
    spec = table(doc.get("spec"))
    return PeerAuthentication(
        meta_of(doc),
        labels(dig(spec, "selector", "matchLabels")),
        _mode(dig(spec, "mtls", "mode")),
        {
            n: _mode(dig(v, "mode"))
            for k, v in table(spec.get("portLevelMtls")).items()
            if (n := port_number(k)) is not None
        },
    )


class PeerPolicies:
    """All PeerAuthentication objects, ready to ask."""

    def __init__(self, policies: Iterable[PeerAuthentication], root_namespace: str) -> None:
        self.root = root_namespace
        self.wide: dict[str, PeerAuthentication] = {}
        self.selecting: dict[str, list[PeerAuthentication]] = {}
        for policy in sorted(policies, key=lambda p: p.meta.order):
            if policy.selector:
                self.selecting.setdefault(policy.meta.namespace, []).append(policy)
            else:
                self.wide.setdefault(policy.meta.namespace, policy)

    def namespace_mode(self, namespace: str) -> ServerMode:
        """The mode that holds for a whole namespace (``GetNamespaceMutualTLSMode``); what clients judge by."""
        for scope, level in ((namespace, "namespace"), (self.root, "mesh")):
            policy = self.wide.get(scope)
            if policy is not None and policy.mode is not Mode.UNSET:
                return ServerMode(policy.mode, policy.meta, "mesh" if scope == self.root else level)
        return ServerMode(Mode.PERMISSIVE, None, "default")

    def mode(self, namespace: str, pod_labels: Mapping[str, str], port: int) -> ServerMode:
        """The effective mode of a workload's container port. Workload policies in the root namespace do not count."""
        if namespace != self.root:
            for policy in self.selecting.get(namespace, ()):
                if selector_matches(policy.selector, pod_labels):
                    level = policy.ports.get(port, Mode.UNSET)
                    if level is not Mode.UNSET:
                        return ServerMode(level, policy.meta, "port")
                    if policy.mode is not Mode.UNSET:
                        return ServerMode(policy.mode, policy.meta, "workload")
                    break
        return self.namespace_mode(namespace)
