"""Transport sockets: what a cluster puts around its bytes for each host, and what a filter chain takes off.

Reference: envoy ``config/core/v3/base.proto`` (``TransportSocket``), ``config/cluster/v3/cluster.proto``
(``TransportSocketMatch``), ``source/common/upstream/transport_socket_match_impl.cc``; istio
``pilot/pkg/networking/core/cluster_tls.go`` and ``pilot/pkg/security/model/authentication.go`` (SDS names).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from deadhop.model.proto_json import get, message, messages, string, strings, type_of

MATCH_KEY = "envoy.transport_socket_match"
#: SDS secrets that istiod gives to workloads; any other name is a user's own certificate.
WORKLOAD_SECRETS = frozenset(("default", "ROOTCA"))


class Client(msgspec.Struct, frozen=True):
    """The client's side of a socket. ``tls`` is ``none``, ``istio``, ``user``, or empty where it is not known."""

    tls: str
    name: str
    sans: tuple[str, ...] = ()
    sni: str = ""


PLAIN = Client("none", "raw_buffer")


def client_socket(cluster: Mapping[str, Any], metadata: Mapping[str, Any]) -> Client:
    """The socket that a cluster uses for a host with this metadata: the first match that holds, else its own."""
    wanted = metadata.get(MATCH_KEY)
    have = wanted if isinstance(wanted, dict) else {}
    for entry in messages(cluster, "transport_socket_matches"):
        asked = message(entry, "match")
        if all(have.get(k) == v for k, v in asked.items()):
            return _client(message(entry, "transport_socket"), string(entry, "name"))
    return _client(message(cluster, "transport_socket"), "transport_socket")


def _client(socket: Mapping[str, Any], label: str) -> Client:
    context = message(socket, "typed_config")
    kind = type_of(context) or string(socket, "name")
    if not socket or kind in ("RawBuffer", "envoy.transport_sockets.raw_buffer"):
        return Client("none", label)
    if kind == "UpstreamTlsContext":
        common = message(context, "common_tls_context")
        return Client(
            "istio" if mesh_identity(common) else "user", label, _sans(common), string(context, "sni")
        )
    return Client("", label)


def mesh_identity(common: Mapping[str, Any]) -> bool:
    """Does a TLS context show the workload's mesh certificate? By SDS name, else by Istio's ALPN."""
    secrets = [string(s, "name") for s in messages(common, "tls_certificate_sds_secret_configs")]
    if secrets:
        return any(s in WORKLOAD_SECRETS for s in secrets)
    return any(a.startswith("istio") for a in strings(common, "alpn_protocols"))


def _sans(common: Mapping[str, Any]) -> tuple[str, ...]:
    """The exact server names that the client accepts; empty where any will do."""
    combined = message(common, "combined_validation_context", "default_validation_context")
    context = combined or message(common, "validation_context")
    typed: Iterable[Any] = (message(m, "matcher") for m in messages(context, "match_typed_subject_alt_names"))
    found = [string(m, "exact") for m in (*typed, *messages(context, "match_subject_alt_names"))]
    return tuple(f for f in found if f)


class Server(msgspec.Struct, frozen=True):
    """The server's side: does the chain end TLS, does it demand a certificate, is it the mesh's?"""

    terminates: bool
    demands: bool
    mesh: bool


def server_socket(chain: Mapping[str, Any]) -> Server:
    """What a filter chain takes off."""
    context = message(chain, "transport_socket", "typed_config")
    if type_of(context) != "DownstreamTlsContext":
        return Server(False, False, False)
    demands = get(context, "require_client_certificate")
    demands = demands if isinstance(demands, bool) else get(demands, "value") is True
    secrets = [
        string(s, "name")
        for s in messages(context, "common_tls_context", "tls_certificate_sds_secret_configs")
    ]
    return Server(True, demands, not secrets or any(s in WORKLOAD_SECRETS for s in secrets))
