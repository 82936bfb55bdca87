"""The kernel functions that a packet passes: what each does, where it stands, how a packet can end in it.

Names as BTF, kallsyms, pwru and retis print them; a compiler's suffix (``.isra.0``, ``.constprop.0``) is not part of a
name. Not every kernel has every function: some are inlined, some are a module's.
"""

from __future__ import annotations

from deadhop.model.kernel_functions_entry import KernelFunction
from deadhop.model.kernel_functions_ip import IP_FUNCTIONS
from deadhop.model.kernel_functions_link import LINK_FUNCTIONS

__all__ = ["FUNCTIONS", "KernelFunction", "find"]

FUNCTIONS: dict[str, KernelFunction] = {
    function.name: function for function in (*LINK_FUNCTIONS, *IP_FUNCTIONS)
}


def find(name: str) -> KernelFunction | None:
    """The row of a function; a module in brackets, brackets of a call and a compiler's suffix are passed over."""
    plain = name.strip().partition("[")[0].partition("(")[0].partition(".")[0].lower()
    return FUNCTIONS.get(plain)
