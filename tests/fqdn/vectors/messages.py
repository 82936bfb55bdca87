"""What is read out of a DNS message."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from deadhop.fqdn import answers
from deadhop.fqdn.options import Version
from deadhop.model.dns import RR, Message, Question

from .common import Area, Vector, same


def message_of(item: Vector, *, response: bool) -> Message:
    def section(name: str) -> tuple[RR, ...]:
        return tuple(RR(owner, ttl, kind, data) for owner, ttl, kind, data in item.get(name, []))

    return Message(
        response=item.get("response", response),
        rcode=item.get("rcode", 0),
        questions=tuple(Question(name, kind) for name, kind in item.get("questions", [])),
        answers=section("answers"),
        authority=section("authority"),
        additional=section("additional"),
    )


def same_details(details: answers.MessageDetails, wanted: Vector) -> None:
    for key, value in wanted.items():
        got = getattr(details, key)
        same(list(got) if isinstance(got, tuple) else got, value, key)


def extract(
    cases: list[Vector], read: Callable[[Message], answers.MessageDetails], *, response: bool
) -> None:
    for case in cases:
        try:
            details = read(message_of(case["message"], response=response))
        except answers.ExtractError:
            same("error", case["expected"])
            continue
        assert case["expected"] != "error", details
        same_details(details, case["expected"])
        if "learned" in case:
            same(details.learned, case["learned"])


def dns_extract(v: Vector, version: Version, _: Any) -> None:
    extract(v.get("cases", [v]), lambda m: answers.extract_response(m, version), response=True)


def dns_request_extract(v: Vector, _version: Version, _: Any) -> None:
    extract(v.get("cases", [v]), answers.extract_request, response=False)


AREAS: dict[str, Area] = {
    "dns_extract": dns_extract,
    "dns_request_extract": dns_request_extract,
}
