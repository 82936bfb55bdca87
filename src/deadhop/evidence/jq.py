"""jq programs as shapes: what a program prints, in terms of its input (jq 1.7 manual, "Basic filters" to "Builtins").

A program is run on a symbol instead of a value: paths become references, constructors become rows and fields, and
``select(.a == "x")`` becomes a fact about what is printed. Whatever computes (arithmetic, ``length``, conditions) is opaque. A
program that this grammar does not know is not read at all.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec

from deadhop.evidence.projection import ANYWHERE, Each, Fields, Known, Length, Opaque, Ref, Row, Shape, Text

_TOKEN = re.compile(
    r"\s*(?P<op>\?//|//=?|==|!=|<=|>=|\|=|\.\.|[][{}().,|:?;<>+*/%-])|\s*(?P<var>\$\w+)|\s*(?P<fmt>@\w+)"
    r"|\s*(?P<num>\d+(?:\.\d+)?)|\s*(?P<word>[A-Za-z_]\w*)"
)
#: Functions that hand their input on, in other order, form or number.
_SAME = frozenset("select sort sort_by unique unique_by reverse tostring tojson ascii_downcase ascii_upcase ltrimstr rtrimstr sub gsub flatten first last tonumber values objects arrays strings scalars limit fromjson recurse".split())  # fmt: skip
_DEPTH = 40

Env = dict[str, Shape]
#: What an expression prints for an input.
Filter = Callable[[Shape, Env], list[Shape]]


class NotRead(ValueError):
    """A program beyond this grammar."""


WHOLE = Ref(())


def shapes(program: str, source: Shape = WHOLE) -> list[Shape]:
    """What ``program`` prints of an input of the given shape. Raises :class:`NotRead`."""
    parser = _Parser(program)
    made = parser.pipe()
    if parser.peek():
        raise NotRead(program)
    return made(source, {})


def _string_end(text: str, start: int, deep: int = 0) -> int:
    """The index behind the string that begins at ``start``; what it interpolates may hold strings of its own."""
    if deep > _DEPTH:
        raise NotRead("too deep")
    at = start + 1
    while at < len(text):
        if text.startswith("\\(", at):
            at = _inner_end(text, at + 2, deep + 1)
        elif text[at] == "\\":
            at += 2
        elif text[at] == '"':
            return at + 1
        else:
            at += 1
    raise NotRead(text)


def _inner_end(text: str, at: int, deep: int = 0) -> int:
    """The index behind the parenthesis that closes an interpolation."""
    depth = 1
    while at < len(text):
        if text[at] == '"':
            at = _string_end(text, at, deep)
            continue
        depth += {"(": 1, ")": -1}.get(text[at], 0)
        at += 1
        if not depth:
            return at
    raise NotRead(text)


def _pieces(text: str) -> list[str]:
    """The literal and interpolated parts of a string by turns, literal first and last."""
    found, last, at = [], 0, 0
    while at < len(text):
        if text.startswith("\\(", at):
            end = _inner_end(text, at + 2)
            found += [text[last:at], text[at + 2 : end - 1]]
            last = at = end
        else:
            at += 2 if text[at] == "\\" else 1
    return [*found, text[last:]]


class _Parser:
    def __init__(self, program: str) -> None:
        self.tokens: list[tuple[str, str]] = []
        at, text = 0, program.rstrip()
        while at < len(text):
            if text[at].isspace():
                at += 1
                continue
            if text[at] == '"':
                end = _string_end(text, at)
                self.tokens.append(("str", text[at:end]))
                at = end
                continue
            match = _TOKEN.match(text, at)
            if match is None or match.end() == at:
                raise NotRead(program)
            kind = match.lastgroup or ""
            self.tokens.append((kind, match[kind]))
            at = match.end()
        self.at = 0
        self.depth = 0

    def peek(self, ahead: int = 0) -> str:
        return self.tokens[self.at + ahead][1] if self.at + ahead < len(self.tokens) else ""

    def kind(self, ahead: int = 0) -> str:
        return self.tokens[self.at + ahead][0] if self.at + ahead < len(self.tokens) else ""

    def take(self, *wanted: str) -> str:
        got = self.peek()
        if not got or (wanted and got not in wanted):
            raise NotRead(got)
        self.at += 1
        return got

    def taken(self, token: str) -> bool:
        if self.peek() == token and self.kind() != "str":
            self.at += 1
            return True
        return False

    def pipe(self, commas: bool = True) -> Filter:
        self.depth += 1
        if self.depth > _DEPTH:
            raise NotRead("too deep")
        left = self.comma() if commas else self.alternative()
        if self.taken("as"):
            name = self.take()
            self.take("|")
            body = self.pipe(commas)
            self.depth -= 1
            return lambda s, env, src=left: [
                o for v in src(s, env) for o in body(s, {**env, name: v}) for o in [_known(o, v)]
            ]  # type: ignore[misc]
        while self.taken("|"):
            right = self.pipe(commas)
            left = _piped(left, right)
        self.depth -= 1
        return left

    def comma(self) -> Filter:
        parts = [self.alternative()]
        while self.taken(","):
            parts.append(self.alternative())
        return parts[0] if len(parts) == 1 else lambda s, env: [o for p in parts for o in p(s, env)]

    def alternative(self) -> Filter:
        left = self.compared()
        while self.taken("//"):
            self.compared()  # what stands in for a missing value is no value of the input
        return left

    def compared(self) -> Filter:
        left = self.postfix()
        while self.peek() in ("==", "!=", "<", ">", "<=", ">=", "+", "-", "*", "/", "%", "and", "or", "|="):
            operator = self.take()
            right = self.postfix()
            left = _compared(operator, left, right)
        return left

    def postfix(self) -> Filter:
        made = self.term()
        while True:
            if self.taken("?"):
                continue
            if self.peek() == "." and (self.kind(1) in ("word", "str") or self.peek(1) == "["):
                self.take()
                if self.peek() != "[":
                    made = _piped(made, _key(_unquote(self.take())))
                continue
            if self.peek() == "[" and self.at and self._attached():
                made = _piped(made, self.bracket())
                continue
            return made

    def _attached(self) -> bool:
        before = self.tokens[self.at - 1]
        return before[0] in ("word", "var", "str") or before[1] in ("]", ")", ".", "?", "..")

    def bracket(self) -> Filter:
        self.take("[")
        if self.taken("]"):
            return _iterate
        if self.kind() == "str":
            key = _unquote(self.take())
            self.take("]")
            return _key(key)
        sliced = False
        while self.peek() and self.peek() != "]" and (self.kind() == "num" or self.peek() in (":", "-")):
            sliced |= self.take() == ":"
        self.take("]")
        return (lambda s, _e: [s]) if sliced else _key(0)

    def term(self) -> Filter:
        kind, token = self.kind(), self.peek()
        if kind == "str":
            return self.string()
        self.take()
        if token == ".":
            if self.kind() in ("word", "str"):
                return _key(_unquote(self.take()))
            return self.bracket() if self.peek() == "[" else lambda s, _e: [s]
        if token == "..":
            return lambda s, _e: [Ref((*s.path, ANYWHERE))] if isinstance(s, Ref) else [Opaque()]
        if token == "(":
            inner = self.pipe()
            self.take(")")
            return inner
        if token == "[":
            return self.array()
        if token == "{":
            return self.object()
        if kind == "var":
            return lambda _s, env: [env.get(token, Opaque())]
        if kind == "fmt":
            return _formatted(token)
        if kind == "num" or token == "-":
            return lambda _s, _e: [Opaque()]
        if kind == "word" and token not in ("if", "reduce", "foreach", "def", "import", "try"):
            return self.call(token)
        raise NotRead(token)

    def string(self) -> Filter:
        raw = self.take()
        if "\\(" not in raw:
            value = _unquote(raw)
            return lambda _s, _e: [Known(Opaque(), (((), value),))]
        parts: list[str | Filter] = []
        for piece in _pieces(raw[1:-1]):
            inner = len(parts) % 2
            parts.append(_Parser(piece).pipe() if inner else _unescape(piece))

        def made(s: Shape, env: Env) -> list[Shape]:
            texts = [p if isinstance(p, str) else (p(s, env) or [Opaque()])[0] for p in parts]
            return [Text(tuple(t for t in texts if t != ""))]

        return made

    def array(self) -> Filter:
        if self.taken("]"):
            return lambda _s, _e: [Opaque()]
        inner = self.pipe()
        self.take("]")

        def made(s: Shape, env: Env) -> list[Shape]:
            outs = inner(s, env)
            own = _elements(s)
            # A select picks one of a list: its value stands in the row like any other.
            if all(_elements(o) <= own + (2 if isinstance(o, Known) and len(outs) > 1 else 0) for o in outs):
                return [Row(tuple(outs))]
            return [Each(outs[0]) if len(outs) == 1 else Opaque()]

        return made

    def object(self) -> Filter:
        items: list[tuple[str, Filter]] = []
        while not self.taken("}"):
            kind, name = self.kind(), self.take()
            name = _unquote(name)
            if kind not in ("word", "str", "var"):
                raise NotRead(name)
            if self.taken(":"):
                items.append((name, self.pipe(commas=False)))
            else:
                items.append((name.lstrip("$"), (lambda _s, e, n=name: [e.get(n, Opaque())]) if kind == "var" else _key(name)))  # type: ignore[misc]  # fmt: skip
            self.taken(",")
        return lambda s, env: [Fields(tuple((k, (f(s, env) or [Opaque()])[0]) for k, f in items))]

    def call(self, name: str) -> Filter:
        args: list[Filter] = []
        if self.taken("("):
            while not self.taken(")"):
                args.append(self.pipe())
                self.taken(";")
        if name == "split" and len(args) == 1 and self._one_piece():
            return lambda s, _e: [s]
        if name == "select" and args:
            return lambda s, env: [_known(s, args[0](s, env)[0] if args[0](s, env) else Opaque())]
        if name == "map" and args:
            return lambda s, env: [Each(o) for e in _iterate(s, env) for o in args[0](e, env)[:1]]
        if name == "length":
            return lambda s, _e: [Length(s.path) if isinstance(s, Ref) else Opaque()]
        if name == "join":
            return lambda s, env: [_joined(s, args[0](s, env) if args else [])]
        if name == "empty":
            return lambda _s, _e: []
        return lambda s, _e: [s] if name in _SAME else [Opaque()]

    def _one_piece(self) -> bool:
        """Whether one piece of a split text is taken next; it stands for the text."""
        at = self.at
        piped = self.taken("|")
        if piped and self.peek() in ("last", "first"):
            self.take()
            return True
        if (not piped or self.taken(".")) and self.peek() == "[":
            self.take()
            while self.peek() and (self.kind() == "num" or self.peek() == "-"):
                self.take()
            if self.taken("]"):
                return True
        self.at = at
        return False


def _piped(left: Filter, right: Filter) -> Filter:
    def made(s: Shape, env: Env) -> list[Shape]:
        return [_known(o, v) for v in left(s, env) for o in right(_bare(v), env)]

    return made


def _bare(shape: Shape) -> Shape:
    return shape.shape if isinstance(shape, Known) else shape


def _known(shape: Shape, by: Shape) -> Shape:
    """``shape`` with the facts that ``by`` carries."""
    facts = tuple(f for f in by.facts if f[0]) if isinstance(by, Known) else ()
    if not facts:
        return shape
    return Known(_bare(shape), (*(shape.facts if isinstance(shape, Known) else ()), *facts))


def _compared(operator: str, left: Filter, right: Filter) -> Filter:
    def made(s: Shape, env: Env) -> list[Shape]:
        a, b = (left(s, env) or [Opaque()])[0], (right(s, env) or [Opaque()])[0]
        if operator == "and":
            return [_known(_known(Opaque(), a), b)]
        if operator == "==" and isinstance(a, Ref) and isinstance(b, Known) and b.facts[0][0] == ():
            return [Known(Opaque(), ((a.path, b.facts[0][1]),))]
        return [Opaque()]

    return made


def _key(name: str | int) -> Filter:
    def made(s: Shape, _env: Env) -> list[Shape]:
        if isinstance(s, Ref):
            return [Ref((*s.path, name))]
        if isinstance(s, Fields):
            return [dict(s.items).get(str(name), Opaque())]
        return [Opaque()]

    return made


def _iterate(s: Shape, _env: Env) -> list[Shape]:
    if isinstance(s, Ref):
        return [Ref((*s.path, None))]
    if isinstance(s, Each):
        return [s.item]
    return list(s.cells) if isinstance(s, Row) else [Opaque()]


def _formatted(name: str) -> Filter:
    separator = {"@tsv": "\t", "@csv": ","}.get(name)
    return lambda s, _e: [Row(s.cells, separator) if isinstance(s, Row) and separator else s]


def _joined(s: Shape, told: list[Shape]) -> Shape:
    separator = told[0].facts[0][1] if told and isinstance(told[0], Known) else ""
    if isinstance(s, Row):
        return Row(s.cells, separator)
    if isinstance(s, Each):
        return Each(s.item, separator)
    return Each(Ref((*s.path, None)), separator) if isinstance(s, Ref) else Opaque()


def _elements(shape: Shape) -> int:
    """How many lists a shape goes through."""
    shape = _bare(shape)
    if isinstance(shape, Ref):
        return sum(1 for step in shape.path if step is None)
    if isinstance(shape, Row):
        return max((_elements(c) for c in shape.cells), default=0)
    if isinstance(shape, Fields):
        return max((_elements(c) for _k, c in shape.items), default=0)
    if isinstance(shape, Text):
        return max((_elements(c) for c in shape.parts if not isinstance(c, str)), default=0)
    return 0


def _unquote(token: str) -> str:
    return _unescape(token[1:-1]) if token[:1] == '"' else token


def _unescape(text: str) -> str:
    try:
        return str(msgspec.json.decode(f'"{text}"'))
    except msgspec.DecodeError:
        return text


__all__ = ["NotRead", "shapes"]
