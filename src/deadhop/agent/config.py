"""The agent's settings: Cilium's flags by their names, from the command line, a ConfigMap or a file of flags.

``--config`` takes the ConfigMap ``cilium-config`` as it is in a cluster, or a mapping of flags to values. The command
line wins over the file, the file over the default of the Cilium version. Transparent mode is on by default, as
Cilium's Helm chart has it since 1.16: the servers see the pods.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from deadhop.fqdn.gc import DNS_GC_INTERVAL
from deadhop.fqdn.options import FLAGS, LATEST, Options, Value, Version, options_for, parse_duration

STATE = Path("/var/lib/deadhop/fqdn")
SOCKET = Path("/run/deadhop/fqdn.sock")
METRICS_PORT = 9967

#: Flags that the agent acts on, with their help.
ENFORCED: dict[str, str] = {
    "tofqdns-min-ttl": "Shortest time that a learned address is kept, in seconds.",
    "tofqdns-endpoint-max-ip-per-hostname": "Addresses kept for a name and endpoint.",
    "tofqdns-max-deferred-connection-deletes": "Expired addresses kept for an endpoint's open connections.",
    "tofqdns-idle-connection-grace-period": "How long an idle connection's address is kept.",
    "tofqdns-proxy-response-max-delay": "Longest wait for the kernel before an answer is released.",
    "tofqdns-proxy-port": "Port of the DNS proxy; 0 lets the kernel pick.",
    "tofqdns-dns-reject-response-code": "Reply to a denied query: refused or nameError.",
    "tofqdns-pre-cache": "A saved cache (fqdn cache list -o json) to begin with.",
    "dnsproxy-concurrency-limit": "Outstanding queries; 0 is no limit of its own.",
    "dnsproxy-concurrency-processing-grace-period": "How long a query waits for its turn at the limit.",
    "dnsproxy-enable-transparent-mode": "Ask the servers with the pods' addresses.",
    "dnsproxy-socket-linger-timeout": "SO_LINGER of TCP to the servers in seconds; 0 resets, -1 is the kernel's way.",
    "conntrack-gc-interval": "Time between looks at the connections; 0 adapts it.",
    "conntrack-gc-max-interval": "Longest adapted time between them.",
    "dns-policy-unload-on-shutdown": 'At a graceful end, let DNS pass whose rule is matchPattern "*".',
}
#: Flags of Cilium that have nothing to act on here.
WITHOUT_EFFECT: dict[str, str] = {
    "tofqdns-enable-dns-compression": "answers are passed on as the server wrote them",
    "tofqdns-preallocate-identities": "sets of addresses stand for identities",
    "dns-max-ips-per-restored-rule": "policies are compiled before the proxy listens",
    "dnsproxy-lock-count": "answers for one name wait for each other without locks",
    "dnsproxy-lock-timeout": "answers for one name wait for each other without locks",
    "enable-standalone-dns-proxy": "the agent is the proxy",
    "standalone-dns-proxy-server-port": "the agent is the proxy",
    "fqdn-regex-compile-lru-size": "names are matched without regular expressions",
    "dnsproxy-insecure-skip-transparent-mode-check": "there is no check to skip",
}


class ConfigError(ValueError):
    """The configuration cannot be used."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the agent is told. Durations in seconds."""

    version: Version = LATEST
    options: Options = msgspec.field(default_factory=lambda: options_for(LATEST)[0])
    policies: tuple[Path, ...] = ()
    endpoints: tuple[str, ...] = ()
    proxy_port: int = 0
    transparent: bool = True
    linger: int = 10
    pre_cache: str = ""
    conntrack_interval: float = 0.0
    conntrack_max_interval: float = 0.0
    dns_gc_interval: float = DNS_GC_INTERVAL
    state: Path = STATE
    socket: Path = SOCKET
    metrics_port: int = METRICS_PORT
    rate_limit: int = 0
    node: str = ""
    keep_privileges: bool = False


def read_config(path: Path) -> dict[str, Value]:
    """Flags of a ConfigMap or of a mapping. Raises :class:`ConfigError` with the file and line."""
    from deadhop.evidence import safe_yaml  # --help does not read files

    try:
        value = safe_yaml.load(path.read_text())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: {error}") from error
    except safe_yaml.YamlProblem as problem:
        raise ConfigError(f"{path}:{problem.line + 1}: {problem}") from problem
    if isinstance(value, dict) and value.get("kind") == "ConfigMap":
        value = value.get("data") or {}
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: neither a ConfigMap nor a mapping of flags to values")
    return {str(k): v for k, v in value.items() if isinstance(v, (str, int, bool))}


def settings_for(
    version: Version, config: Mapping[str, Value], **own: object
) -> tuple[Settings, tuple[str, ...]]:
    """Settings of flags and of the agent's own options, and remarks. Raises :class:`ConfigError`."""
    options, complaints = options_for(version, config)
    if complaints:
        raise ConfigError("; ".join(f"{flag}: {text}" for flag, text in complaints))
    remarks = tuple(
        f"{flag} has no effect: {why}"
        for flag, why in WITHOUT_EFFECT.items()
        if flag in config and str(config[flag]).lower() != str(FLAGS[flag].default(version)).lower()
    )
    try:
        values = {
            "proxy_port": int(config.get("tofqdns-proxy-port", 0)),
            "transparent": _boolean(config.get("dnsproxy-enable-transparent-mode", True)),
            "linger": int(config.get("dnsproxy-socket-linger-timeout", 10)),
            "pre_cache": str(config.get("tofqdns-pre-cache", "")),
            "conntrack_interval": _seconds(config.get("conntrack-gc-interval", 0)),
            "conntrack_max_interval": _seconds(config.get("conntrack-gc-max-interval", 0)),
        }
    except ValueError as error:
        raise ConfigError(str(error)) from error
    if not 0 <= int(str(values["proxy_port"])) < 65536:
        raise ConfigError(f"tofqdns-proxy-port: {values['proxy_port']} is no port")
    return Settings(version=version, options=options, **values, **own), remarks  # type: ignore[arg-type]


def _boolean(value: Value) -> bool:
    text = str(value).strip().lower()
    if text not in ("true", "false", "1", "0", "t", "f"):
        raise ValueError(f"not a boolean: {value!r}")
    return text in ("true", "1", "t")


def _seconds(value: Value) -> float:
    return parse_duration(value) if isinstance(value, str) else float(value)
