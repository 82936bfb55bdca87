"""Whose proxy a reading is of, and of which kinds of resources it holds all.

A reading that was narrowed (``mask=``, ``name_regex=``, ``--port``) proves nothing by what it lacks. Where no
command is known, a list counts as whole only when it has what every sidecar has.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from deadhop.evidence.envoy_dump import Found
from deadhop.evidence.format import Context
from deadhop.model.proto_json import message, number, string, type_of

_SECTION = {
    "ListenersConfigDump": "listener",
    "RoutesConfigDump": "route",
    "ClustersConfigDump": "cluster",
    "EndpointsConfigDump": "endpoints",
}
_ISTIOCTL = {
    "listener": "listener", "listeners": "listener", "l": "listener", "route": "route", "routes": "route", "r": "route",
    "cluster": "cluster", "clusters": "cluster", "c": "cluster", "endpoint": "hosts", "endpoints": "hosts", "ep": "hosts", "eds": "endpoints",
}  # fmt: skip
#: Options of ``istioctl proxy-config`` that narrow what is shown (istioctl/pkg/proxyconfig/proxyconfig.go).
_NARROW = re.compile(r"^--(?:port|address|type|name|fqdn|direction|subset|cluster|status)\b")
_VALUED = frozenset(("-n", "--namespace", "-o", "--output", "-i", "--istioNamespace", "-c", "--context", "--kubeconfig", "--proxy-admin-port", "--revision", "-r"))  # fmt: skip
_FOLDER = re.compile(r"(?:^|/)proxies/(?P<ns>[a-z0-9-]+)/(?P<pod>[a-z0-9][a-z0-9.-]*)/[^/]+$")
_MARKS = {
    "cluster": ("BlackHoleCluster", "PassthroughCluster"),
    "listener": ("virtualOutbound", "virtualInbound"),
}


def owner_of_node(node: dict[str, Any]) -> tuple[str, str]:
    """``(namespace/pod, role)`` of a node id such as ``sidecar~10.0.0.9~web-0.shop~shop.svc.cluster.local``."""
    parts = string(node, "id").split("~")
    if len(parts) != 4:
        return "", ""
    pod, _, namespace = parts[2].rpartition(".")
    return (f"{namespace}/{pod}" if pod and namespace else ""), parts[0]


def envoy_of_node(node: dict[str, Any]) -> str:
    """The Envoy release that a node says it is."""
    version = message(node, "user_agent_build_version", "version")
    parts = [number(version, f) for f in ("major_number", "minor_number", "patch")]
    return f"{parts[0]}.{parts[1]}.{parts[2] or 0}" if parts[0] and parts[1] is not None else ""


def owner_of_context(context: Context) -> str:
    """``namespace/pod`` from the folder of a bug report, the command, or the pod it ran in; empty where none says."""
    if match := _FOLDER.search(context.file.replace("!", "/")):
        return f"{match['ns']}/{match['pod']}"
    run = context.command
    if run is not None and run.program == "istioctl" and _proxy_config(run.argv):
        return _pod_argument(run.argv)
    where = context.where
    return where if "/" in where and " " not in where else ""


def _proxy_config(argv: tuple[str, ...]) -> str:
    """What ``istioctl proxy-config`` was asked for; empty for another command."""
    words = list(argv)
    at = next((i for i, w in enumerate(words) if w in ("pc", "proxy-config")), None)
    return words[at + 1] if at is not None and at + 1 < len(words) else ""


def _pod_argument(argv: tuple[str, ...]) -> str:
    plain: list[str] = []
    namespace, skip = "", False
    for i, word in enumerate(argv):
        if skip:
            skip = False
        elif word in _VALUED or (_NARROW.match(word) and "=" not in word):
            skip = True
            if word in ("-n", "--namespace") and i + 1 < len(argv):
                namespace = argv[i + 1]
        elif word.startswith("--namespace="):
            namespace = word.partition("=")[2]
        elif not word.startswith("-"):
            plain.append(word)
    pod = plain[3] if len(plain) > 3 else ""
    if not pod or "/" in pod.removeprefix("pod/"):
        return ""
    pod = pod.removeprefix("pod/")
    if namespace:
        return f"{namespace}/{pod}"
    name, _, behind = pod.rpartition(".")
    return f"{behind}/{name}" if name and behind else ""


def coverage(
    value: Any, found: Iterable[Found], context: Context, complete: bool
) -> tuple[list[str], list[str]]:
    """The kinds that the reading holds all of, and those it holds some of."""
    listed = list(found)
    present = list(dict.fromkeys(f.kind for f in listed if f.state != "rejected"))
    whole: set[str] = set()
    line = context.command.line if context.command is not None else ""
    asked = f"{line} {context.file}"
    if complete and not re.search(r"[?&](?:mask|name_regex)=", asked):
        whole = _sections(value)
        argv = context.command.argv if context.command is not None else ()
        topic = _proxy_config(argv) if argv and argv[0].endswith("istioctl") else ""
        if topic in _ISTIOCTL and not any(_NARROW.match(w) for w in argv):
            whole.add(_ISTIOCTL[topic])
        if isinstance(value, dict) and isinstance(value.get("cluster_statuses"), list):
            whole.add("hosts")
        if isinstance(value, list) and not topic:
            whole |= {
                kind for kind, marks in _MARKS.items()
                if all(any(f.name == m and f.kind == kind for f in listed) for m in marks)
            }  # fmt: skip
    masked = {f.kind for f in listed if f.state != "rejected" and _hollow(f)}
    whole -= masked
    kinds = dict.fromkeys([*present, *whole])
    return [k for k in kinds if k in whole], [k for k in kinds if k not in whole]


def _sections(value: Any) -> set[str]:
    configs = value.get("configs") if isinstance(value, dict) else None
    if not isinstance(configs, list):
        return set()
    return {_SECTION[t] for c in configs if (t := type_of(c)) in _SECTION}


def _hollow(found: Found) -> bool:
    """Does the resource lack what every resource of its kind has? Then a mask took it away."""
    keys = found.raw.keys()
    match found.kind:
        case "listener":
            return not keys & {"filterChains", "filter_chains", "defaultFilterChain", "default_filter_chain"}
        case "route":
            return not keys & {"virtualHosts", "virtual_hosts"}
        case "cluster":
            return not (keys - {"name", "@type"})
    return False
