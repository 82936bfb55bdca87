"""The filter language of the probes: pcap-filter(7)'s words, with the kernel's own added.

``udp and src port 9053``, ``host 10.0.0.63``, ``dev lxc0 and not reason PKT_TOO_BIG``. :mod:`parse` makes a tree of
:mod:`nodes`; :mod:`compile` turns it into instructions that run in the kernel; :mod:`evaluate` gives the same answer
in Python, as the oracle of the tests.
"""

from deadhop.kernel.filter.compile import compile_filter
from deadhop.kernel.filter.evaluate import matches
from deadhop.kernel.filter.nodes import EVERYTHING, FilterError, Node
from deadhop.kernel.filter.parse import parse

__all__ = ["EVERYTHING", "FilterError", "Node", "compile_filter", "matches", "parse"]
