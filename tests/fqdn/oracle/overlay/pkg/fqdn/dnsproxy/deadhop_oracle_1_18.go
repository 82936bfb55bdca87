//go:build cilium1_18

package dnsproxy

import "github.com/cilium/cilium/pkg/policy"

func (p *OracleProxy) update(id uint64, port uint16, protocol uint8, rules policy.L7DataMap) error {
	_, err := p.UpdateAllowed(id, oraclePort(port, protocol), rules)
	return err
}
