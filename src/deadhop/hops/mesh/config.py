"""The mesh configuration (ConfigMap ``istio``, key ``mesh``) and the settings of istiod itself.

Defaults are Istio's: outbound ALLOW_ANY, auto-mTLS on, connect timeout 10 s, root namespace ``istio-system``,
trust domain ``cluster.local``. Reference: istio ``pkg/config/mesh/mesh.go`` (``DefaultMeshConfig``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import yaml

from deadhop.hops.mesh.decode import dig, duration, rows, strings, table, text

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class MeshConfig(msgspec.Struct, frozen=True):
    """What of the mesh configuration decides about a request."""

    outbound_mode: str = "ALLOW_ANY"
    auto_mtls: bool = True
    connect_timeout: float = 10.0
    root_namespace: str = "istio-system"
    trust_domain: str = "cluster.local"
    cluster_domain: str = "cluster.local"
    http10: bool = False
    h2_upgrade: bool = False
    service_export: frozenset[str] = frozenset("*")
    virtual_service_export: frozenset[str] = frozenset("*")
    destination_rule_export: frozenset[str] = frozenset("*")
    inbound_retries: bool = True
    merge_ingress_listeners: bool = False
    discovery_selectors: bool = False
    said: bool = False


def compile_config(
    config_map: Mapping[str, Any] | None, istiod_env: Mapping[str, str], cluster_domain: str
) -> tuple[MeshConfig, str]:
    """The mesh configuration and what is wrong with it (empty where nothing is)."""
    problem, mesh = "", table(None)
    if config_map is not None:
        raw = dig(config_map, "data", "mesh")
        if isinstance(raw, str) and len(raw) <= 1 << 20:
            try:
                mesh = table(yaml.load(raw, Loader=_Loader))
            except (yaml.YAMLError, ValueError, RecursionError) as error:
                problem = f"ConfigMap istio: key mesh is not YAML: {str(error).splitlines()[0]}"
        else:
            problem = "ConfigMap istio has no text under the key mesh"
    proxy_env = table(dig(mesh, "defaultConfig", "proxyMetadata"))
    http10 = text(proxy_env.get("ISTIO_META_HTTP10")) or istiod_env.get("PILOT_HTTP10", "")

    def exported(field: str) -> frozenset[str]:
        return frozenset(strings(mesh.get(field))) or frozenset("*")

    timeout = duration(mesh.get("connectTimeout"))
    return (
        MeshConfig(
            outbound_mode=text(dig(mesh, "outboundTrafficPolicy", "mode")) or "ALLOW_ANY",
            auto_mtls=mesh.get("enableAutoMtls") is not False,
            connect_timeout=10.0 if timeout is None else timeout,
            root_namespace=text(mesh.get("rootNamespace")) or "istio-system",
            trust_domain=text(mesh.get("trustDomain")) or "cluster.local",
            cluster_domain=cluster_domain,
            http10=http10 in ("1", "true"),
            h2_upgrade=text(mesh.get("h2UpgradePolicy")) == "UPGRADE",
            service_export=exported("defaultServiceExportTo"),
            virtual_service_export=exported("defaultVirtualServiceExportTo"),
            destination_rule_export=exported("defaultDestinationRuleExportTo"),
            inbound_retries=istiod_env.get("ENABLE_INBOUND_RETRY_POLICY", "true") != "false",
            merge_ingress_listeners=istiod_env.get("PILOT_ALLOW_SIDECAR_SERVICE_INBOUND_LISTENER_MERGE")
            == "true",
            discovery_selectors=bool(list(rows(mesh.get("discoverySelectors")))),
            said=config_map is not None and not problem,
        ),
        problem,
    )


def istiod_environment(deployment: Mapping[str, Any]) -> dict[str, str]:
    """The environment of istiod's ``discovery`` container."""
    containers = rows(dig(deployment, "spec", "template", "spec", "containers"))
    return {
        text(e.get("name")): text(e.get("value"))
        for c in containers
        if text(c.get("name")) == "discovery"
        for e in rows(c.get("env"))
    }
