"""What Envoy, istio-agent and istiod write to their logs (debug and trace lines among them)."""

from __future__ import annotations

from deadhop.evidence.formats.messages import catalogue, entry

_GRPC = "envoy source/extensions/config_subscription/grpc/grpc_stream.h; istio pkg/istio-agent/xds_proxy.go"
_SUB = "envoy source/extensions/config_subscription/grpc/grpc_subscription_impl.cc"
_LDS = "envoy source/common/listener_manager/listener_manager_impl.cc"
_HCM = "envoy source/common/http/conn_manager_impl.cc"
_CODEC = "envoy source/common/http/http1/codec_impl.cc"
_RBAC = "envoy source/extensions/filters/http/rbac/rbac_filter.cc"
_SDS = "istio security/pkg/nodeagent, pilot/pkg/credentials"
_TLS = "envoy source/common/tls; boringssl"

FORMAT = catalogue(
    "envoy",
    (
        entry("listener-duplicate-address", r"(?:listener|LDS).*?['\"]?(?P<listener>[\w.:|-]*)['\"]? has duplicate address ['\"]?(?P<address>[\w.:\[\]]+?)['\"]? as existing listener", _LDS),
        entry("listener-bind-failed", r"cannot bind ['\"]?(?P<address>[\d.:\[\]a-f]+:\d+)['\"]?: (?P<why>Address already in use|Permission denied)", _LDS),
        entry("listener-filter-chains-clash", r"(?:adding|error).*listener.*?(?P<listener>[\d.]+[_:]\d+)?.*multiple filter chains with (?:the same|overlapping) matching rules", _LDS),
        entry(
            "xds-unknown-field",
            r"(?P<why>unknown fields? (?:type|in)[^\n]*|Protobuf message .*has unknown fields|(?:no such field|Cannot find field)[:.]? ?[\w'\"]*|Didn't find a registered (?:network filter |http filter |)?(?:implementation|factory)[^\n]*|[Cc]ould not find [@\w]*type [\w./]+|Unable to (?:unpack|parse) .*(?:Any|type)[^\n]*)",
            _SUB,
        ),
        entry("xds-rejected", r"(?:gRPC|gRPC delta|[Dd]elta|REST)? ?config (?:update )?for (?:type\.googleapis\.com/)?(?P<type>[\w.]+) rejected:? ?(?P<why>.*)", _SUB),
        entry("xds-rejected", r"(?P<type>[LCER]DS|[A-Z]DS): ACK ERROR (?P<proxy>\S+) (?P<why>.*)", "istio pilot/pkg/xds/ads.go"),
        entry("xds-rejected", r"(?P<why>Error adding/updating (?P<type>listener|cluster|route)s?\(?s?\)? .*)", _SUB),
        entry("xds-rejected", r"(?P<type>[LCER]DS|xds):? (?P<why>(?:update )?(?:NACK|rejected)\b.*)", "istio pilot/pkg/xds; cilium pkg/envoy/xds"),
        entry("xds-timeout", r"(?P<type>gRPC config|initial fetch|[Cc]onfig(?:uration)?)[: ].*?initial fetch timed? ?out(?: for (?:type\.googleapis\.com/)?(?P<of>[\w.]+))?", _SUB),
        entry("xds-stream-closed", r"gRPC config stream (?:to [\w.-]+ )?closed(?: since (?P<age>\d+)s ago)?: (?P<code>\d+)(?:,? ?(?P<why>\S.*))?", _GRPC),
        entry("xds-stream-closed", r"\bxdsproxy\s+disconnected from XDS server: (?P<server>\S+)", _GRPC),
        entry("xds-stream-closed", r"[Ee]nvoy ADS stream(?: is| has been)? (?:closed|interrupted|terminated)[^\n]*?(?:code ?[=:] ?(?P<code>\w+)|(?P<why>EOF|context canceled|max (?:connection )?age)|$)", _GRPC),
        entry("xds-stream-closed", r"(?:[Uu]pstream|xds proxy|XDS|xdsproxy).*?(?:terminated|disconnected|closed|[Rr]econnect)\w*.*?(?:code = (?P<code>\w+)|(?P<why>max (?:connection )?age|EOF))", _GRPC),
        entry("xds-stream-open", r"(?:connected to (?:delta )?upstream XDS server|ADS: new (?:delta )?connection for node|establish(?:ed|ing) (?:new )?(?:gRPC )?(?:bidi )?(?:ADS )?stream)", _GRPC),
        entry(
            "proxy-not-ready",
            r"Envoy proxy is NOT ready: (?P<why>[^:\n]*(?:[Pp]ilot|XDS|xds|server)[^:\n]*|[^\n:]*)(?:: cds updates: (?P<cds_ok>\d+) successful, (?P<cds_rejected>\d+) rejected; lds updates: (?P<lds_ok>\d+) successful, (?P<lds_rejected>\d+) rejected)?",
            "istio pilot/cmd/pilot-agent/status/ready",
        ),
        entry("proxy-ready", r"Envoy proxy is ready|Readiness succeeded in ", "istio pilot/cmd/pilot-agent"),
        entry("local-reply", r"(?:\[C(?P<conn>\d+)\])?(?:\[S\d+\])? ?[Ss]ending local reply with details (?P<details>[\w.{}:|/ -]+)", _HCM),
        entry("header-completed", r"\[C(?P<conn>\d+)\] completed header: key=(?P<name>\S+) value=(?P<value>.*)", _CODEC),
        entry("message-begin", r"\[C(?P<conn>\d+)\] message begin", _CODEC),
        entry("headers-complete", r"\[C(?P<conn>\d+)\](?:\[S\d+\])? (?:onHeadersComplete(?:Base|Impl)?|headers complete)", _CODEC),
        entry("codec-error", r"(?:\[C(?P<conn>\d+)\] )?(?:dispatch error|(?:Error dispatching received data|protocol error|codec error)): (?P<error>.*)", _HCM),
        entry("request-header", r"^\s*['\"](?P<name>:?[a-z][\w-]*)['\"], ?['\"](?P<value>[^'\"]*)['\"]\s*$", _HCM + " (debug log of headers)"),
        entry("rbac-denied", r"(?P<mode>shadow|enforced) denied(?:, matched policy (?P<policy>\S+))?", _RBAC),
        entry("rbac-allowed", r"(?P<mode>shadow|enforced) allowed(?:, matched policy (?P<policy>\S+))?", _RBAC),
        entry("route-unknown-cluster", r"unknown cluster ['\"](?P<cluster>[^'\"]+)['\"]", "envoy source/common/router/router.cc"),
        entry("cluster-found", r"cluster ['\"](?P<cluster>[^'\"]+)['\"] match for URL", "envoy source/common/router/router.cc"),
        entry("no-route", r"no (?:route|cluster) match for URL ['\"]?(?P<path>[^'\"\s]*)", "envoy source/common/router/router.cc"),
        entry(
            "secret-malformed",
            r"(?P<why>[Ff]ailed to load (?:incomplete )?(?:private key|certificate(?: chain)?|trusted CA cert\w*|CRL) ?(?:from|: |path)?.*|[Ii]nvalid (?:private key|path|certificate)[^\n]*(?:inline|secret)[^\n]*|(?:PEM|NO_START_LINE|no start line|BAD_BASE64|KEY_VALUES_MISMATCH)\w*.*(?:key|cert|PEM|inline).*)",
            _TLS,
        ),
        entry("secret-not-found", r"(?:resource: ?(?P<resource>[\w./-]{1,300}) .*?)?(?:SecretFetcher |secretfetcher\s+)?[Cc]annot find secret (?P<secret>[\w./-]+)(?:,? (?P<why>.*))?", _SDS),
        entry("secret-not-found", r"(?:[Ff]ailed to (?:fetch|get|generate|load)\w* (?:the )?(?:secret|key and cert\w*|credential\w*)(?: for)?|no such secret|error getting secret)[^\n]*?(?:kubernetes://)?(?P<secret>[\w.-]+(?:/[\w.-]+)?)[\"']?:? [^\n]*?(?P<why>not found|secret [\w./-]+ not found|not authorized|forbidden)[^\n]*", _SDS),
        entry("secret-not-found", r"secret (?P<secret>[\w.-]+/[\w.-]+) (?:not found|does not exist)", _SDS),
        entry("secret-not-authorized", r"proxy \S+ (?:attempted to access unauthorized certificates|is not authorized to read secret\w*)\s*(?P<secret>\S+)?", "istio pilot/pkg/xds/sds.go"),
        entry("upstream-reset", r"\[C(?P<conn>\d+)\](?:\[S\d+\])? upstream reset: reset reason: (?P<reason>[a-z ]+)", "envoy source/common/router/router.cc"),
        entry("tls-error", r"(?:\[C(?P<conn>\d+)\] ?)?TLS[ _]error:\|?? ?\|?(?P<error>.*)", _TLS),
        entry("remote-closed", r"\[C(?P<conn>\d+)\](?:\[S\d+\])? (?P<what>remote close|remote early close|upstream disconnected|client disconnected)", "envoy source/common/network/connection_impl.cc"),
        entry("filter-chain-missing", r"closing connection(?: from \S+)?: no matching filter chain found", _LDS),
    ),
    priority=22,
)  # fmt: skip
