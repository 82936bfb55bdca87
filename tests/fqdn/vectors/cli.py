"""What cilium-dbg prints."""

from __future__ import annotations

from typing import Any

from deadhop.fqdn import formats
from deadhop.fqdn.clock import from_rfc3339
from deadhop.fqdn.options import Version

from .common import Area, Vector, same


def cache_row(item: Vector) -> formats.CacheRow:
    return formats.CacheRow(
        endpoint=item.get("endpoint", 0),
        source=item["source"],
        fqdn=item["fqdn"],
        ttl=item.get("ttl", 0),
        expiration=from_rfc3339(item["expiration"]),
        ips=tuple(item["ips"]),
    )


def cli_fqdn_cache_list(v: Vector, _version: Version, _: Any) -> None:
    lines = formats.cache_list([cache_row(row) for row in v["rows"]])
    if "expected_lines_rstripped" in v:
        same([line.rstrip() for line in lines], v["expected_lines_rstripped"])
    if "expected_lines" in v:
        same(lines, v["expected_lines"])


def cli_policy_selectors(v: Vector, version: Version, _: Any) -> None:
    if "expected_header" in v:
        same("\t".join(formats.selectors_header(version)), v["expected_header"])
    if "legacy_header_until_1_14" in v:
        same("\t".join(formats.selectors_header(Version(1, 14))), v["legacy_header_until_1_14"])
    if "rows" in v:
        rows = []
        for item in v["rows"]:
            labels = []
            for text in item.get("labels") or ():
                namespace, slash, policy = text.rpartition("/")
                if slash:
                    labels.append(formats.Label(formats.POLICY_NAMESPACE, "k8s", namespace))
                labels.append(formats.Label(formats.POLICY_NAME, "k8s", policy))
            rows.append(
                formats.SelectorRow(
                    selector=item["selector"],
                    users=item["users"],
                    identities=tuple(item.get("identities") or ()),
                    labels=tuple(labels),
                )
            )
        lines = [line.rstrip() for line in formats.policy_selectors(rows, version)]
        same(lines, v["expected_lines_rstripped"])


AREAS: dict[str, Area] = {
    "cli_fqdn_cache_list": cli_fqdn_cache_list,
    "cli_policy_selectors": cli_policy_selectors,
}
