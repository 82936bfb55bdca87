"""A packet across namespaces: the wires between them, the frame on its way, tunnels, and the walk over all of it.

:mod:`wiring` knows which device leads where, :mod:`frames` takes a frame from a device to the one that receives it,
:mod:`tunnels` wraps and unwraps, :mod:`journey` walks a packet from its sender to its end.
"""

from deadhop.hops.linux.across.journey import Journey, walk_across
from deadhop.hops.linux.across.wiring import Wiring

__all__ = ["Journey", "Wiring", "walk_across"]
