"""The knowledge base: one cause, one file, in a folder per family.

``load()`` finds them by a scan of the package; a slug that two files claim is an error. ``doc(cause)`` gives the
sections of a cause's docstring.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from functools import cache
from types import ModuleType

from deadhop.model.cause import Cause

SECTIONS = ("What happens", "How to tell it from its neighbours", "Fix", "References")


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


def doc(slug: str) -> dict[str, str]:
    """The docstring of a cause by section; the key ``""`` holds its first sentence. Raises ``KeyError``."""
    text = _modules()[slug][1].__doc__ or ""
    parts = re.split(rf"^({'|'.join(map(re.escape, SECTIONS))})\n-+\n", text, flags=re.M)
    sections = {"": parts[0].strip()}
    sections.update({parts[i]: parts[i + 1].strip() for i in range(1, len(parts) - 1, 2)})
    return sections
