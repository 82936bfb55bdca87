//go:build cilium1_13

package dnsproxy

import "github.com/cilium/cilium/pkg/fqdn/restore"

func oraclePort(port uint16, protocol uint8) restore.PortProto {
	if protocol == 0 {
		return restore.PortProto(port)
	}
	return restore.PortProto(1<<24 | uint32(protocol)<<16 | uint32(port))
}

func init() {
	OracleFunctions["dnsproxy.Pattern"] = func(rules oracleRules) string { return GeneratePattern(rules.l7()) }
}
