"""Resolvers inside gateways that ask for CNAME records by themselves, and the option that makes them ask for A first."""

from __future__ import annotations

from typing import NamedTuple


class ResolverOrder(NamedTuple):
    """``marks`` are words (environment variables, image names) by which evidence shows the product."""

    product: str
    marks: tuple[str, ...]
    artifact: str
    reference: str


ORDERS: tuple[ResolverOrder, ...] = (
    ResolverOrder(
        "Kong Gateway",
        ("KONG_", "kong"),
        "env:\n- name: KONG_DNS_ORDER\n  value: A,CNAME,LAST,SRV\n",
        "Kong configuration reference, dns_order",
    ),
    ResolverOrder(
        "OpenResty with lua-resty-dns-client",
        ("openresty", "resty"),
        'require("resty.dns.client").init { order = { "last", "A", "AAAA", "CNAME", "SRV" } }\n',
        "lua-resty-dns-client, init options",
    ),
)


def known(words: set[str]) -> ResolverOrder | None:
    """The product that the words of the evidence name, or None."""
    return next((o for o in ORDERS if any(mark in word for mark in o.marks for word in words)), None)
