r"""``matchPattern``: canonical form, the regular expression Cilium builds, and matching without that expression.

Cilium turns a pattern into an RE2 expression (``pkg/fqdn/matchpattern``) and that text is what ``fqdn names``
prints, so it is built here letter for letter. Matching does not run it: RE2 is linear in its input and Python's
``re`` is not, and a policy is foreign input. A pattern without regular-expression meaning splits at its dots into
one glob per label (``*`` never crosses a dot), which gives the same language in linear time and lets
``selectors.SelectorIndex`` walk a trie.

What changed: up to 1.18 every ``*`` expands by itself and only the bare ``*`` means "all"; since 1.19 runs of
stars are one star, ``^[*]+[.]?$`` means "all", and a leading ``**.`` stands for one or more whole labels
(PR 43420).
"""

from __future__ import annotations

import re

import msgspec

from deadhop.fqdn.gotext import quote
from deadhop.fqdn.names import fqdn
from deadhop.fqdn.options import V1_19, Version

CLASS = "[-a-zA-Z0-9_]"
MATCH_ALL_ANCHORED = f"(^({CLASS}+[.])+$)|(^[.]$)"
MATCH_ALL_UNANCHORED = ".*"
MAX_LENGTH = 255

_ALL_STARS = re.compile(r"[*]+[.]?\Z")
_ALLOWED = re.compile(r"[-a-zA-Z0-9_.*]*\Z")
_FORBIDDEN_UNTIL_1_18 = frozenset("[]+{},")
_LABEL = re.compile(r"[-a-zA-Z0-9_]*\Z")
_SPECIAL = re.compile(r"[^-a-zA-Z0-9_.*]")


class PatternError(ValueError):
    """The pattern is not one that Cilium compiles; the text is Cilium's complaint."""


def is_match_all(pattern: str, version: Version) -> bool:
    """True where a (trimmed) pattern stands for every name."""
    if version >= V1_19:
        return _ALL_STARS.match(pattern) is not None
    return pattern == "*"


def sanitize(pattern: str, version: Version) -> str:
    """The canonical form of a ``matchPattern`` (``matchpattern.Sanitize``): lower case with the final dot."""
    return pattern if is_match_all(pattern, version) else fqdn(pattern)


def check(pattern: str, version: Version) -> None:
    """Refuse what ``matchpattern.Validate`` refuses. Raises :class:`PatternError`.

    Up to 1.18 only the characters ``[ ] + { } ,`` were refused here; the policy's own check was stricter.
    """
    if version < V1_19:
        if _FORBIDDEN_UNTIL_1_18.intersection(pattern):
            raise PatternError(
                'Only alphanumeric ASCII characters, the hyphen "-", underscore "_", "." and "*" are allowed '
                "in a matchPattern"
            )
        return
    if len(pattern.strip().encode()) > MAX_LENGTH:
        raise PatternError(
            f"Invalid MatchPattern: {quote(pattern)}. Must be <= {MAX_LENGTH} characters long."
        )
    if not _ALLOWED.match(pattern):
        raise PatternError(
            f'Invalid characters in MatchPattern: "{pattern}". '
            "Only 0-9, a-z, A-Z and ., -, _ and * characters are allowed"
        )


def _expand(pattern: str, version: Version) -> str:
    text = pattern.replace(".", "[.]")
    if version < V1_19:
        return text.replace("*", f"{CLASS}*")
    text = re.sub(r"\A[*]{2,}\[[.]\]", f"({CLASS}+([.]{CLASS}+){{0,}})[.]", text)
    # The inserted group holds "]*" nowhere, so what is left of "*" came from the pattern.
    return re.sub(r"[*]+", f"{CLASS}*", text)


def to_anchored_regex(pattern: str, version: Version) -> str:
    """The RE2 text for selectors, ``fqdn names`` and ``-p`` (``matchpattern.ToAnchoredRegexp``)."""
    text = pattern.strip().lower()
    if is_match_all(text, version):
        return MATCH_ALL_ANCHORED
    return f"^{_expand(text, version)}$"


def to_unanchored_regex(pattern: str, version: Version) -> str:
    """The RE2 text without anchors, part of a DNS rule's alternatives (``matchpattern.ToUnAnchoredRegexp``)."""
    text = pattern.strip().lower()
    if is_match_all(text, version):
        return MATCH_ALL_UNANCHORED
    return _expand(text, version)


class Glob(msgspec.Struct, frozen=True):
    """One label of a pattern: literal pieces with a star between each two."""

    pieces: tuple[str, ...]

    @property
    def literal(self) -> str | None:
        return self.pieces[0] if len(self.pieces) == 1 else None

    def matches(self, label: str) -> bool:
        """Leftmost matching of the pieces: each star takes zero or more of ``[-a-zA-Z0-9_]``."""
        first, *middle = self.pieces
        if not middle:
            return label == first
        last = middle.pop()
        end = len(label) - len(last)
        if end < len(first) or not label.startswith(first) or not label.endswith(last):
            return False
        at = len(first)
        for piece in middle:
            found = label.find(piece, at, end)
            if found < 0:
                return False
            at = found + len(piece)
        return _LABEL.match(label) is not None


class Pattern(msgspec.Struct, frozen=True):
    """A compiled pattern. ``globs`` are its labels between the dots, left to right.

    ``everything``: any fully qualified name or the root. ``subdomains``: one or more whole labels stand before
    ``globs`` (``**.`` since 1.19).
    """

    text: str
    globs: tuple[Glob, ...] = ()
    everything: bool = False
    subdomains: bool = False

    def matches(self, name: str) -> bool:
        """Whether the anchored expression matches ``name``, taken as it is (no canonicalisation)."""
        labels = name.split(".")
        if self.everything:
            return name == "." or (labels[-1] == "" and len(labels) > 1 and whole_labels(labels[:-1]))
        extra = len(labels) - len(self.globs)
        if self.subdomains:
            if extra < 1 or not whole_labels(labels[:extra]):
                return False
        elif extra:
            return False
        return all(glob.matches(label) for glob, label in zip(self.globs, labels[extra:], strict=True))


def whole_labels(labels: list[str]) -> bool:
    """True where every label is a non-empty run of ``[-a-zA-Z0-9_]``."""
    return all(label and _LABEL.match(label) for label in labels)


def compile_pattern(pattern: str, version: Version) -> Pattern:
    """Compile a pattern as it stands (sanitise policy values first). Raises :class:`PatternError`.

    What :func:`check` lets through up to 1.18 but has a meaning to RE2 (``a?b``) is refused: no policy can hold it.
    """
    check(pattern, version)
    return compile_unchecked(pattern, version)


def compile_unchecked(pattern: str, version: Version) -> Pattern:
    """As :func:`compile_pattern` without the version's checks, as the DNS proxy compiles its rules."""
    text = pattern.strip().lower()
    if is_match_all(text, version):
        return Pattern(text, everything=True)
    special = _SPECIAL.search(text)
    if special:
        raise PatternError(f"{pattern!r} does not compile: {special[0]!r} is not allowed in a pattern")
    labels = text.split(".")
    subdomains = version >= V1_19 and len(labels) > 1 and len(labels[0]) > 1 and not labels[0].strip("*")
    if subdomains:
        del labels[0]
    globs = tuple(Glob(tuple(re.split(r"[*]+", label))) for label in labels)
    return Pattern(text, globs, subdomains=subdomains)
