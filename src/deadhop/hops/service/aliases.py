"""ExternalName Services that point at a host of the registry become other names of that host.

Followed over several steps; a loop is dropped. Reference: istio ``pilot/pkg/model/push_context.go``
(``resolveServiceAliases``).
"""

from __future__ import annotations

import msgspec

from deadhop.hops.service.registry import MeshService, Resolution


def resolve_alias(targets: dict[str, str], host: str) -> str | None:
    """The concrete host at the end of a chain of aliases, None for a loop."""
    seen = set()
    while host in targets:
        if host in seen:
            return None
        seen.add(host)
        host = targets[host]
    return host


def with_aliases(services: list[MeshService]) -> list[MeshService]:
    """The services, each with the alias hosts that lead to it (ordered by namespace and name)."""
    targets = {s.host: s.external_name for s in services if s.resolution is Resolution.ALIAS}
    if not targets:
        return services
    names: dict[str, list[str]] = {}
    for alias in sorted(targets):
        concrete = resolve_alias(targets, alias)
        if concrete is not None:
            names.setdefault(concrete, []).append(alias)
    return [
        msgspec.structs.replace(s, aliases=tuple(names[s.host])) if s.host in names else s for s in services
    ]
