"""What the Linkerd proxy writes to its log and puts into ``l5d-proxy-error`` (linkerd2-proxy, linkerd/app)."""

from __future__ import annotations

from deadhop.evidence.formats.messages import catalogue, entry

_ERRORS = "linkerd2-proxy linkerd/app/core/src/errors/respond.rs"
_IN = "linkerd2-proxy linkerd/app/inbound"
_SIDE = r"(?:(?P<side>inbound|outbound)[:{].*?)?"

FORMAT = catalogue(
    "linkerd",
    (
        entry("no-route", rf"(?:{_SIDE}(?:client\.addr=(?P<client>[\d.:]+).*?)?|l5d-proxy-error: ?.*)no route found for request", _IN + "/src/http/router.rs"),
        entry("loop", rf"{_SIDE}(?:HTTP loop detected|inbound connection must not target port (?P<port>\d+)|outbound connection must not target|[Ll]oop detected)", _IN + "/src/lib.rs (LoopPrevention)"),
        entry("identity-mismatch", rf"{_SIDE}(?P<why>(?:invalid peer certificate|certificate).*(?:NotValidForName|CertNotValidForName|UnknownIssuer|not valid for name)[^\n]*|[Uu]nexpected (?:TLS )?(?:server )?identity[^\n]*)", "rustls"),
        entry("unauthorized", rf"{_SIDE}(?:[Rr]equest denied|[Cc]onnection denied|unauthorized (?:request|connection)|client [\d.:]+: server: [\d.:]+: unauthorized|Permission denied error=unauthorized)[^\n]*?(?:server=(?P<server>[\w./-]+))?", _IN + "/src/policy"),
        entry("fail-fast", rf"{_SIDE}(?:(?P<unit>[Ss]ervice|[Ll]ogical service|[Ee]ndpoint|[Cc]oncrete service)? ?(?P<name>[\w.:-]{1,300})?:? ?(?:in fail-?fast|entered fail-?fast|fail-fast))", _ERRORS),
        entry("connect-failed", rf"{_SIDE}Failed to connect (?:addr=(?P<address>[\d.:]+) )?error=(?P<why>[^\n]+)", "linkerd2-proxy linkerd/proxy/tap"),
        entry("closed-before-complete", rf"{_SIDE}(?:connection closed before message completed|connection reset by peer.*client)", "hyper"),
        entry("direct-refused", rf"{_SIDE}(?:[Dd]irect connections? (?:require|must)[^\n]*|unexpected non-transparent connection)", _IN + "/src/direct.rs"),
        entry("not-http", rf"{_SIDE}(?:[Ii]nvalid HTTP (?:version|header|method)|parsed an? invalid|HTTP detection timed out|protocol detection timed? ?out)[^\n]*", "linkerd2-proxy linkerd/detect"),
    ),
    priority=21,
)  # fmt: skip
