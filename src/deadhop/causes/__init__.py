"""The knowledge base: one cause, one file, in a folder per family.

``load()`` finds them by a scan of the package; a slug that two files claim is an error. ``pages`` holds
what a person reads of a cause.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from types import ModuleType

from deadhop.model.cause import Cause


@cache
def load() -> dict[str, Cause]:
    """Every cause by slug, in alphabetical order. Raises ``ValueError`` where two files claim one slug."""
    return {slug: cause for slug, (cause, _module) in sorted(_modules().items())}


@cache
def _modules() -> dict[str, tuple[Cause, ModuleType]]:
    found: dict[str, tuple[Cause, ModuleType]] = {}
    for info in pkgutil.walk_packages(__path__, __name__ + "."):
        if info.ispkg:
            continue
        module = importlib.import_module(info.name)
        cause = getattr(module, "CAUSE", None)
        if not isinstance(cause, Cause):
            continue
        if cause.slug in found:
            raise ValueError(
                f"two cause files claim {cause.slug!r}: {found[cause.slug][1].__file__} and {module.__file__}"
            )
        found[cause.slug] = (cause, module)
    return found
