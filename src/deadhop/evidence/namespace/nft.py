"""``nft -j list ruleset``: libnftables-json(5), every schema version 1 release."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from deadhop.evidence.namespace.iproute2 import MALFORMED, number, words
from deadhop.model.netfilter import NftChain, NftObject, NftRule, NftRuleset, NftSet, NftTable
from deadhop.model.record import Problem, Record, Source

#: Names that ``prio`` may carry instead of a number (nft(8), "standard priority names").
PRIORITIES = {
    "raw": -300, "mangle": -150, "dstnat": -100, "filter": 0, "security": 50, "srcnat": 100,
}  # fmt: skip


def _prio(value: Any) -> int:
    if isinstance(value, dict):
        value = value.get("num", value)
    if isinstance(value, str) and value in PRIORITIES:
        return PRIORITIES[value]
    return number(value)


def _devices(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else words(value)


def _flags(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else words(value)


def ruleset(data: bytes, file: str) -> Iterator[Record]:
    """One :class:`NftRuleset`, or none where the file is not a ruleset: a part of a ruleset decides nothing."""
    tables: list[NftTable] = []
    chains: list[NftChain] = []
    rules: list[NftRule] = []
    sets: list[NftSet] = []
    objects: list[NftObject] = []
    try:
        items = msgspec.json.decode(data)["nftables"]
        if not isinstance(items, list):
            raise TypeError("nftables is not a list")
    except (*MALFORMED, msgspec.DecodeError, RecursionError) as error:
        yield Problem(kind="damaged", text=f"not a ruleset of nft -j: {error}", source=Source(file))
        return
    for index, item in enumerate(items):
        source = Source(file, path=f"#nftables/{index}")
        try:
            ((kind, body),) = item.items()
            if kind == "metainfo":
                continue
            where = {"family": str(body["family"]), "table": str(body.get("table", ""))}
            if kind == "table":
                tables.append(
                    NftTable(
                        family=where["family"],
                        name=str(body["name"]),
                        handle=number(body.get("handle", 0)),
                        flags=_flags(body.get("flags")),
                    )
                )
            elif kind == "chain":
                chains.append(
                    NftChain(
                        **where,
                        name=str(body["name"]),
                        handle=number(body.get("handle", 0)),
                        type=body.get("type"),
                        hook=body.get("hook"),
                        prio=_prio(body.get("prio", 0)),
                        policy=str(body.get("policy", "accept")),
                        devices=_devices(body.get("dev", body.get("devices"))),
                        source=source,
                    )
                )
            elif kind == "rule":
                rules.append(
                    NftRule(
                        **where,
                        chain=str(body["chain"]),
                        handle=number(body.get("handle", 0)),
                        expr=tuple(body.get("expr") or ()),
                        comment=body.get("comment"),
                        source=source,
                    )
                )
            elif kind in ("set", "map"):
                sets.append(
                    NftSet(
                        **where,
                        name=str(body["name"]),
                        type=body.get("type"),
                        map=body.get("map"),
                        flags=_flags(body.get("flags")),
                        elem=tuple(body.get("elem") or ()),
                        source=source,
                    )
                )
            else:
                objects.append(NftObject(**where, name=str(body.get("name", "")), kind=kind, body=body))
        except (*MALFORMED, msgspec.ValidationError) as error:
            text = f"nft object: {type(error).__name__} {error} in {str(item)[:200]}"
            yield Problem(kind="damaged", text=text, source=source)
            return
    yield NftRuleset(
        source=Source(file),
        tables=tuple(tables),
        chains=tuple(chains),
        rules=tuple(rules),
        sets=tuple(sets),
        objects=tuple(objects),
    )
