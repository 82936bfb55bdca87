//go:build cilium1_18

package seven

import (
	"net/netip"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/cilium/cilium/pkg/proxy/accesslog"
)

// OracleFunctions are what the oracle calls.
var OracleFunctions = map[string]any{
	"seven.summary": func(kind, query string, ips []netip.Addr, ttl uint32, cnames []string, source string, rcode int, qtypes, answers []uint16) (string, string, error) {
		record := &accesslog.LogRecordDNS{
			Query: query, IPs: ips, TTL: ttl, CNAMEs: cnames, ObservationSource: accesslog.DNSDataSource(source),
			RCode: rcode, QTypes: qtypes, AnswerTypes: answers,
		}
		layer7 := decodeDNS(accesslog.FlowType(kind), record)
		made, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(layer7.Dns)
		return dnsSummary(accesslog.FlowType(kind), record), string(made), err
	},
}
