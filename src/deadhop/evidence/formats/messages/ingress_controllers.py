"""What ingress and gateway controllers write: ingress-nginx, Traefik, HAProxy, Kong, oauth2-proxy, cert-manager."""

from __future__ import annotations

from deadhop.evidence.formats.messages import catalogue, entry

_NGINX = "kubernetes/ingress-nginx internal/ingress/controller"
_TRAEFIK = "traefik pkg/provider/kubernetes, pkg/server/service"
_HAPROXY = "haproxy doc/configuration.txt, 8.5 session state"
_HAPROXY_CHECK = "haproxy src/check.c, src/server.c (server state changes)"

FORMAT = catalogue(
    "ingress-controller",
    (
        entry("secret-not-found", r"[Ee]rror (?:getting|obtaining|loading|fetching) (?:the )?(?:SSL |TLS |X\.?509 )?(?:[Cc]ertificate|PEM|secret)\w*(?: from [Ss]ecret)? \\?[\"'](?P<secret>[\w.-]+/[\w.-]+|[\w.-]+)\\?[\"'].*?(?P<why>was not found|not found|no (?:object|secret)[^\n]*|does not exist)", _NGINX + "/controller.go getPemCertificate"),
        entry("secret-not-found", r"(?:[Ss]ecret|secret name:?|certificate) \\?[\"']?(?P<secret>[\w.-]+/[\w.-]+)\\?[\"']? (?P<why>was not found|not found|does not exist|is not found)", _NGINX),
        entry("secret-not-found", r"(?:[Ss]ecrets?|local SSL certificate) \\?[\"'](?P<secret>[\w./-]+)\\?[\"'] (?P<why>was not found|not found|does not exist|is not found)(?:\W|$)", "k8s.io/apimachinery NewNotFound"),
        entry("secret-not-found", r"[Ee]rror configuring TLS for ingress (?P<ingress>[\w./-]+): .*?secret (?P<secret>[\w./-]+) (?P<why>does not exist)", _TRAEFIK),
        entry("secret-malformed", r"(?:[Ee]rror|[Uu]nexpected error|[Ff]ailed|unable|[Cc]annot|invalid)[^\n]*?(?:secret|cert|key)\w*[^\n]*?(?:[\"' ](?P<secret>[\w.-]+/[\w.-]+)[\"':, ])?[^\n]*?(?P<why>no valid PEM|failed to find any PEM data[^\n]*|private key does not match public key|no key found|PEM[_ ]\w*|does not contain (?:a )?(?:valid|PEM)[^\n]*|malformed[^\n]*|failed to parse (?:private key|certificate|EC|PKCS)[^\n]*|asn1: [^\n]*|x509: malformed[^\n]*)", _NGINX + "; Go crypto/tls X509KeyPair"),
        entry("secret-malformed", r"tls: (?P<why>failed to find any PEM data in (?:key|certificate) input|failed to parse private key|private key does not match public key|failed to find PEM block[^\n]*|found a certificate rather than a key[^\n]*)", "Go crypto/tls X509KeyPair"),
        entry("default-certificate", r"[Uu]sing (?:the )?default (?:TLS |SSL )?certificate|TRAEFIK DEFAULT CERT|Kubernetes Ingress Controller Fake Certificate", _NGINX + "; traefik"),
        entry("no-active-endpoint", r"[Ss]ervice \\?[\"']?(?P<service>[\w.-]+/[\w.-]+)\\?[\"']? does not have any active [Ee]ndpoints?", _NGINX),
        entry("service-port-missing", r"(?:[Ss]ervice|backend).*?(?:[\"'](?P<service>[\w.-]+(?:/[\w.-]+)?)[\"'])?.*?(?:does not have|has no|no) (?:a )?(?:matching |service )?port\w*:? ?(?:matching |named |number )?[\"']?(?P<port>[\w-]+)?|service port not found:? ?(?P<p2>\S*)", _TRAEFIK),
        entry("proxy-error", r"(?:http: proxy error|[Ee]rror proxying to upstream(?: server)?|'?50[24] Bad Gateway'? caused by): (?P<why>.*)", "Go net/http/httputil ReverseProxy; oauth2-proxy pkg/upstream; traefik"),
        entry("upstream-connect-failed", r"(?:Health check for s|S)erver (?P<backend>[\w.:-]+)/(?P<server>[\w.:-]+) (?:is DOWN|failed), reason: (?P<why>Layer4 (?:connection problem|timeout)[^\n]*?)(?:, check duration|\. \d+ active|$)", _HAPROXY_CHECK),
        entry("no-live-upstreams", r"(?:backend|proxy) '?(?P<backend>[\w.:-]+)'? has no server available", _HAPROXY_CHECK),
        entry("upstream-address-changed", r"(?P<backend>[\w.:-]+)/(?P<server>[\w.:-]+) changed its IP from (?P<old>[0-9a-fA-F.:]+) to (?P<new>[0-9a-fA-F.:]+) by ", "haproxy src/server.c srv_update_addr"),
        entry("tls-handshake-eof", r"(?P<client>[\d.]+|[\da-f:]+):\d+ \[\d\d/\w{3}/\d{4}:[\d:.]+\] (?P<frontend>[^/\s]+/\S+): (?P<why>Connection closed during SSL handshake|Timeout during SSL handshake|SSL handshake failure \(?Connection closed\)?)", _HAPROXY),
        entry("haproxy-log", r"(?P<client>[\d.]+):\d+ \[\d\d/\w{3}/\d{4}:[\d:.]+\] (?P<frontend>\S+) (?P<backend>[^/\s]+/\S+) (?:-?\d+(?:/[+-]?\d+){4} (?P<status>\d{3}|-1) \+?\d+ .*?|-?\d+/-?\d+/\+?\d+ \+?\d+ )(?P<state>[A-Zcs-][A-Z-](?:[A-Z-]{2})?) \d+/\d+/\d+/\d+/\d+", _HAPROXY),
        entry("self-check-failed", r"(?:failed to perform self check GET request|propagation check failed|wrong status code '?(?P<status>\d+)'?)[^\n]*?(?P<url>https?://\S+)?(?:[\"': ]+(?P<why>.*))?$", "cert-manager pkg/issuer/acme/http"),
        entry("header-too-large", r"(?P<why>(?:upstream|response|server) (?:sent (?:too )?(?:big|large)|headers?) (?:header|too (?:big|large)|exceed)[^\n]*|net/http: HTTP/1\.x transport connection broken: net/http: HTTP/\d server response headers exceeded \d+ bytes[^\n]*|response[_ ]headers?[_ ]too[_ ]large|http2: response header list larger than advertised limit)", "Go net/http maxHeaderResponseSize; envoy response_code_details"),
    ),
    priority=27,
)  # fmt: skip
