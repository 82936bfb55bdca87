"""One connection under FQDN policy as a world to prove fixes in: selectors, what the proxy saw, the connection.

The walk is the short form of Cilium's: each answered A or AAAA question teaches its addresses under the name that
was asked; the connection is allowed if a selector matches one of the names that its address was learned under.
"""

from __future__ import annotations

import msgspec

from deadhop.fqdn.options import V1_16, Version
from deadhop.fqdn.selectors import FQDNSelector
from deadhop.model.record import Source
from deadhop.model.trace import Disposition, Hop, Step, Trace


class Taught(msgspec.Struct, frozen=True, kw_only=True):
    """An answer that passed the proxy: the name that was asked and the addresses in it."""

    asked: str
    addresses: tuple[str, ...]
    expired: bool = False
    sources: tuple[Source, ...] = ()


class FqdnWorld(msgspec.Struct, frozen=True, kw_only=True):
    """``wanted`` is the name that the application means, ``address`` what it dials. ``inspected`` is False where no
    rule sends DNS through the proxy: then nothing is taught."""

    client: str
    wanted: str
    address: str
    selectors: tuple[FQDNSelector, ...]
    taught: tuple[Taught, ...]
    inspected: bool = True
    version: Version = V1_16

    def with_fields(self, **fields: object) -> FqdnWorld:
        return msgspec.structs.replace(self, **fields)


def walk(world: FqdnWorld) -> Trace:
    """The trace of the connection from the client to ``address``."""
    steps: list[Step] = []
    names: list[str] = []
    if not world.inspected:
        steps.append(
            Step(
                decided_by="rules.dns",
                text="no rule sends DNS through the proxy, so nothing is learned",
                ok=False,
            )
        )
    else:
        for answer in world.taught:
            holds = world.address in answer.addresses
            state = "expired" if answer.expired else f"{len(answer.addresses)} addresses"
            text = (
                f"the proxy learns {answer.asked} ({state}{', among them ' + world.address if holds else ''})"
            )
            steps.append(
                Step(
                    decided_by=f"answer for {answer.asked}",
                    text=text,
                    ok=True if holds and not answer.expired else None,
                    sources=answer.sources,
                )
            )
            if holds and not answer.expired:
                names.append(answer.asked)
    dns = Hop(kind="fqdn", name="DNS proxy", steps=tuple(steps))
    matched = ""
    for selector in world.selectors:
        try:
            pattern = selector.compile(world.version)
        except ValueError:
            continue
        matched = matched or next(
            (
                f"{selector.match_name or selector.match_pattern} matches {n}"
                for n in names
                if pattern.matches(n.rstrip(".").lower() + ".")
            ),
            "",
        )
    shown = ", ".join(s.match_name or s.match_pattern for s in world.selectors[:4])
    if matched:
        decision = Step(decided_by="toFQDNs", text=f"selector {matched}: the address is allowed", ok=True)
        end, reason, says = Disposition.DELIVERED, "", "the address has an identity that the policy selects"
    else:
        known = ", ".join(names) or "no name"
        decision = Step(
            decided_by="toFQDNs",
            text=f"{world.address} is known under {known}; no selector ({shown}) matches",
            ok=False,
        )
        end, reason, says = Disposition.DROPPED, "POLICY_DENIED", "the address has only a world identity"
    return Trace(
        flow=f"{world.client} -> {world.wanted} ({world.address})",
        disposition=end,
        hops=(dns, Hop(kind="policy", name="egress of the client", steps=(decision,))),
        reason=reason,
        says=says,
    )
