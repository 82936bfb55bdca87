"""What listens, as ``ss -ltn`` and ``netstat -tln`` print it."""

from __future__ import annotations

from deadhop.evidence.formats.messages import catalogue, entry

_PLACE = r"(?P<address>\d+\.\d+\.\d+\.\d+|\*|\[?[\da-f:]*::[\da-f:.]*\]?|::)(?:%\w+)?:(?P<port>\d+)"

FORMAT = catalogue(
    "sockets",
    (
        entry("listening", rf"^(?:tcp\S*\s+)?LISTEN\s+\d+\s+\d+\s+{_PLACE}\s", "ss(8)"),
        entry("listening", r"^\S+\s+\d+\s+\S+\s+\d+[ur]?\s+IPv[46]\s.*\bTCP (?P<address>\*|[\d.]+|\[[\da-f:]+\]):(?P<port>\d+) \(LISTEN\)", "lsof(8) -nP -iTCP"),
        # What servers say when they start: the address and port that they bound.
        entry("listening", r"(?:^|\s)-? ?Local:\s+https?://(?P<address>localhost|[\w.\[\]:]*?):(?P<port>\d+)/?\s*$", "Next.js and Vite start-up"),
        entry("listening", r"(?:Running on|running on|Listening at:?|Now listening on:?|[Ll]istening on:?|[Ss]erver (?:running|started|listening) (?:at|on):?) +https?://(?P<address>localhost|[\d.*]+|\[[\da-f:]+\]):(?P<port>\d+)", "werkzeug, uvicorn, gunicorn, Kestrel, puma"),
        entry("listening", r"(?:Tomcat|Netty|Jetty|Undertow) (?:started|initialized) (?:with port\(s\)|on ports?(?:\(s\))?):? (?P<port>\d+)", "Spring Boot web servers"),
        entry("listening", r"[Ll]isten(?:ing)? (?:and serving HTTP )?on:? (?:tcp )?(?:port |:)(?P<port>\d{2,5})(?:\W|$)", "Express and Go servers by custom"),
        entry("listening", r"[Ll]isten(?:ing)?(?: and serving HTTP)? on:? (?:tcp )?(?P<address>\d+\.\d+\.\d+\.\d+|\[[\da-f:]*\]|localhost):(?P<port>\d{2,5})(?:\W|$)", "Go net/http, gin, gRPC servers by custom"),
        entry("listening", rf"^tcp6?\s+\d+\s+\d+\s+{_PLACE}\s+\S+\s+LISTEN", "netstat(8)"),
    ),
    priority=30,
)  # fmt: skip
