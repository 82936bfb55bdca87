//go:build cilium1_13 && !cilium1_18

package dnsproxy

import "github.com/cilium/cilium/pkg/policy"

func (p *OracleProxy) update(id uint64, port uint16, protocol uint8, rules policy.L7DataMap) error {
	return p.UpdateAllowed(id, oraclePort(port, protocol), rules)
}
