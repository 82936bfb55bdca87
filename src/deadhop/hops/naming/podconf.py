"""The resolv.conf that the kubelet writes for a pod (``pkg/kubelet/network/dns/dns.go``, ``GetPodDNS``).

``ClusterFirst`` gives the cluster's server, its three search domains, what the node's own file adds to them, and
``ndots:5``; ``dnsConfig`` adds servers and domains behind and overrides options by name. The node's file is not among a
cluster's objects: what depends on it is said not to be known.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from deadhop.hops.resolver import Profile, conf_from_options
from deadhop.model.dns import ResolvConf
from deadhop.model.observed.kube import listing, mapping, mappings

MAX_NAMESERVERS, MAX_DOMAINS = 3, 32
"""Limits of the kubelet's (``validation.MaxDNSNameservers``, ``MaxDNSSearchPaths``)."""


class PodConf(msgspec.Struct, frozen=True, kw_only=True):
    """``conf`` is empty where ``unknown`` says why. ``complete`` is False where the node's search domains follow."""

    conf: ResolvConf = ResolvConf()
    complete: bool = True
    unknown: str = ""


def pod_conf(spec: Mapping[str, Any], namespace: str, server: str, domain: str) -> PodConf:
    """What a pod's file holds. ``server`` is the address of cluster DNS, ``domain`` the cluster's."""
    policy = str(spec.get("dnsPolicy") or "ClusterFirst")
    if policy == "ClusterFirst" and spec.get("hostNetwork") is True:
        policy = "Default"
    config = mapping(spec, "dnsConfig")
    more = [str(s) for s in listing(config, "nameservers")]
    domains = [str(s) for s in listing(config, "searches")]
    options = [_option(o) for o in mappings(config, "options") if o.get("name")]
    if policy == "None":
        return PodConf(conf=conf_from_options(more[:MAX_NAMESERVERS], domains[:MAX_DOMAINS], options))
    if policy == "Default":
        return PodConf(
            unknown=f"the pod has the node's resolv.conf (dnsPolicy {policy}), which is not in the evidence"
        )
    search = list(dict.fromkeys([f"{namespace}.svc.{domain}", f"svc.{domain}", domain, *domains]))
    servers = list(dict.fromkeys([server, *more]))
    conf = conf_from_options(servers[:MAX_NAMESERVERS], search[:MAX_DOMAINS], ["ndots:5", *options])
    return PodConf(conf=conf, complete=False)


def _option(item: Mapping[str, Any]) -> str:
    value = item.get("value")
    return str(item["name"]) if value in (None, "") else f"{item['name']}:{value}"


def as_configured(profile: Profile, spec: Mapping[str, Any]) -> Profile:
    """The library as the pod's environment sets it: ``KONG_DNS_ORDER`` for Kong's client."""
    if profile.resolver != "kong":
        return profile
    variables = [e for c in mappings(spec, "containers") for e in mappings(c, "env")]
    order = next((str(e.get("value") or "") for e in variables if e.get("name") == "KONG_DNS_ORDER"), "")
    words = tuple(word.strip().upper() for word in order.split(",") if word.strip())
    return msgspec.structs.replace(profile, dns_order=words) if words else profile
