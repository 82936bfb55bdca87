"""TLS and HTTP errors in the words of libraries and clients: OpenSSL, BoringSSL, Go, Java, Node, Python, browsers, gRPC."""

from __future__ import annotations

from deadhop.evidence.formats.messages import catalogue, entry

_OPENSSL = "openssl ssl/ssl_err.c"
_GO = "Go crypto/tls, net/http"
_GRPC = "grpc-go, grpc-java, grpc-core status texts"

FORMAT = catalogue(
    "client-library",
    (
        entry("plain-http-to-https-port", r"(?:^|[\">\s:])(?P<what>(?:400 )?[Tt]he plain HTTP request was sent to HTTPS port|Client sent an HTTP request to an HTTPS server\.?|You're speaking plain HTTP to an SSL-enabled server port|This combination of host and port requires TLS)", "nginx NGX_HTTP_TO_HTTPS 497; " + _GO + "; Apache mod_ssl; Tomcat"),
        entry("answer-is-tls", r"malformed HTTP (?:response|version|status code) \\?\"?(?P<bytes>\\?\\x15\\?\\x03[^\"]*)", _GO),
        entry("tls-request-on-http-port", r"(?P<bytes>\\?\\x16\\?\\x03\\?\\x0\d)|invalid character (?:found )?in method name.*(?:0x16|\\u0016|\[0x16)", "TLS record header in an HTTP server's log"),
        entry("frame-too-large", r"(?:http2: frame too large|(?:note that the )?frame header looked like an HTTP/1\.1 header|http2: server sent (?:GOAWAY|a frame).*HTTP/1|First received frame was not SETTINGS\. Hex dump for first 5 bytes: 48\s?54\s?54\s?50|Unexpected HTTP/1\.x response: HTTP/1\.[01]|connection preface.*HTTP/1|Trying to connect an http1\.x server)", "golang.org/x/net/http2; netty; grpc-core"),
        entry("http1-on-http2-server", r"(?:received bogus greeting from client: \\?\"(?P<method>[A-Z]{3,7})\\? |HTTP/2 client preface string missing or corrupt\. Hex dump for received bytes: (?:504f5354|47455420|50555420)|An HTTP/1\.x request was sent to an HTTP/2 only endpoint|Connect string mismatch: expected 'P' \(80\) got)", "grpc-go internal/transport/http2_server.go; netty Http2ConnectionHandler; Kestrel CoreStrings.resx; grpc-core chttp2 parsing.cc"),
        entry("grpc-bad-content-type", r"(?:unexpected content-type \\?\"?(?P<type>[\w/+-]*)|(?:invalid|bad|unexpected|malformed) (?:grpc |header: )?(?:content-type|HTTP status code)[^\n]*?(?P<status>\d{3})?|transport: received (?:the )?unexpected content-type \\?\"(?P<t2>[^\"\\]*))", _GRPC),
        entry("grpc-no-status", r"(?:server closed the stream without sending trailers|(?:[Mm]issing|no|without) (?:grpc-status|trailers?|:status)\b[^\n]*|stream (?:terminated|closed)[^\n]*without (?:grpc-status|trailers)|Half-closed without a status|[Ss]tream removed)", _GRPC),
        entry("duplicate-transfer-encoding", r"too many transfer encodings: ?\[|HPE_INVALID_TRANSFER_ENCODING|unsupported transfer encoding:? ?\W*chunked, ?chunked|[Dd]uplicate (?:\w+ ){0,2}\W?[Tt]ransfer-[Ee]ncoding\b(?!-)", "Go net/http transfer.go; llhttp"),
        entry("idle-connection-closed", r"http: server closed idle connection|[Kk]eep-?[Aa]live[^\n]*(?:NoHttpResponseException|closed by (?:server|peer))|NoHttpResponseException[^\n]*failed to respond|socket hang up|ServerDisconnectedError|RemoteDisconnected", "Go net/http errServerClosedIdle; Apache HttpClient; node"),
        entry("envoy-body", r"upstream connect error or disconnect/reset before headers\.? ?(?:retried and the latest )?reset reason: (?P<reason>[a-z ]+)(?:, transport failure reason: (?P<transport>[^\"\n]*))?", "envoy source/common/router/router.cc, quoted in a program's log"),
        entry("websocket-bad-upgrade", r"(?:Can \\?[\"']?[Uu]pgrade\\?[\"']? only to \\?[\"']?[Ww]eb[Ss]ocket|'websocket' token not found in 'Upgrade' header|[Ii]nvalid [Uu]pgrade header(?:: ?(?P<value>\S+))?|not a websocket handshake: [^\n]*[Uu]pgrade[^\n]*|(?:[Mm]issing|[Bb]ad|[Ii]ncorrect) [\"'`]?[Uu]pgrade[\"'`]?[^\n]*(?:header|token)[^\n]*)", "gorilla/websocket, tornado, ws, Spring HandshakeInterceptor"),
        entry("websocket-handshake-failed", r"(?:WebSocket|websocket|wss?://)[^\n]*(?:[Uu]nexpected (?:server )?response(?: code)?: ?(?P<status>\d{3})|bad handshake|[Hh]andshake (?:failed|status) ?(?P<s2>\d{3})?|invalid status(?: code)? (?P<s3>\d{3}))", "browsers, ws, gorilla/websocket"),
        entry("san-mismatch", r"(?P<what>x509: certificate is (?:valid for|not valid for any names)[^\n]*|[Hh]ostname[/ ]IP does not match certificate[^\n]*|ERR_TLS_CERT_ALTNAME_INVALID[^\n]*|verify SAN list|SAN matcher|no alternative certificate subject name matches[^\n]*)", _GO + "; node; curl"),
        entry(
            "answer-is-not-tls",
            r"(?P<what>\[SSL(?:: (?:WRONG_VERSION_NUMBER|UNKNOWN_PROTOCOL|HTTP_REQUEST|RECORD_LAYER_FAILURE|PACKET_LENGTH_TOO_LONG)\]|\] record layer failure)[^\n]*|(?:SSL routines|TLS_error|TLS error|OPENSSL_internal|ssl3_get_record|tls_get_more_records|[Ss]sl\w*)[^\n]*(?:wrong[ _]version[ _]number|WRONG_VERSION_NUMBER|packet length too long|unknown protocol|http request)|first record does not look like a TLS handshake|server gave HTTP response to HTTPS client|Unsupported or unrecognized SSL message|Unrecognized SSL message, plaintext connection|SSL received a record that exceeded the maximum permissible length|SSL_ERROR_RX_RECORD_TOO_LONG|ERR_SSL_PROTOCOL_ERROR|ERR_SSL_WRONG_VERSION_NUMBER|EPROTO[^\n]*wrong version|An unexpected TLS packet was received|InvalidContentType|received corrupt message of type InvalidContentType|not an SSL/TLS record|Cannot determine the frame size or a corrupted frame was received|[Hh]andshake failed due to an unexpected packet format)",
            _OPENSSL + "; " + _GO + "; JSSE; NSS; GnuTLS; rustls; CPython Modules/_ssl.c; .NET System.Net.Security Strings.resx net_ssl_io_frame, net_io_invalidhandshake",
        ),
        entry("certificate-unknown-ca", r"(?P<what>x509: certificate signed by unknown authority|CERTIFICATE_VERIFY_FAILED|certificate verify failed)", _OPENSSL),
        entry("tls-handshake-eof", r"http: TLS handshake error from (?P<client>\S+): (?P<why>EOF|read tcp[^\n]*(?:reset by peer|broken pipe)|remote error[^\n]*|tls: [^\n]*|client sent[^\n]*)", _GO),
        entry("no-peer-certificate", r"no peer certificate available|SSL_ERROR_SYSCALL in connection to (?P<host>\S+)|unexpected eof while reading|alert handshake failure|tlsv1 unrecognized name|unrecognized_name", _OPENSSL),
        entry("app-http-status", r"(?:url|URL|uri|URI|to|for|GET|POST)[ :=]+\\?\"?(?P<url>https?://[^\s\"'\],?]+(?:\?[^\s\"'\],]*)?)[\"',:;]?[^\n]*?(?:status(?:[ _-]?[Cc]ode)?|returned|response code|HTTP response code|statusCode)[ :=\"']*(?P<status>[345]\d\d)\b", "application logs of HTTP clients"),
        entry("app-http-status", r"(?:status(?:[ _-]?[Cc]ode)?|HTTP(?: error)?|returned(?: HTTP status)?|[Ss]erver returned HTTP response code)[ :=\"']*(?P<status>[345]\d\d)\b[^\n]*?(?P<url>https?://[^\s\"'\],]+)", "application logs of HTTP clients"),
        entry("listening", r"(?:[Ll]isten(?:ing|ed)? on|[Ss]erver (?:is )?(?:running|started|listening) (?:on|at)|Tomcat (?:started|initialized) (?:on|with) port\(?s?\)?:?|Now listening on:|started on port\(?s?\)?:?|Uvicorn running on|Running on|Listening at:?|[Ss]erving (?:HTTP )?on)\s*\D{0,24}?(?:(?P<address>\d+\.\d+\.\d+\.\d+|\[?::1?\]?|localhost|0\.0\.0\.0|\*)?:)?(?:port )?(?P<port>\d{2,5})\b", "start-up lines of common servers"),
    ),
    priority=58,
)  # fmt: skip
