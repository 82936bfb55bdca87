"""The kernel's drop reasons: what each means, where it is given, what counts it, and which causes end that way.

Names are ``enum skb_drop_reason`` (include/net/dropreason-core.h; before 6.4 include/net/dropreason.h, before 5.19
include/linux/skbuff.h) without the prefix. The enum's numbers move between kernels: resolve them through BTF, never by
a table. ``since`` was read from the headers and types of 6.1, 6.6, 6.12, 6.14, 6.18, 6.19 and 7.2; between two of them
it follows the release that took the commit, and 7.2 stands for what is newer than 6.19. Functions and counters of what the model answers are checked by
``deadhop.lab.verify`` on 6.18. Before its ``since`` a drop is ``NOT_SPECIFIED``.
"""

from __future__ import annotations

from deadhop.model.drop_reasons_entry import DropReason
from deadhop.model.drop_reasons_ip import IP_REASONS
from deadhop.model.drop_reasons_link import LINK_REASONS, NOT_DROPS
from deadhop.model.drop_reasons_transport import TRANSPORT_REASONS

__all__ = ["PREFIX", "REASONS", "DropReason", "find"]

PREFIX = "SKB_DROP_REASON_"

REASONS: dict[str, DropReason] = {
    reason.name: reason for reason in (*LINK_REASONS, *IP_REASONS, *TRANSPORT_REASONS, *NOT_DROPS)
}


def find(name: str) -> DropReason | None:
    """The row of a reason, with or without prefix, in any case."""
    upper = name.strip().upper()
    return REASONS.get(upper.removeprefix(PREFIX)) or REASONS.get(upper)
