//go:build !cilium1_13

package dnsproxy

import "github.com/cilium/cilium/pkg/policy"

func (p *OracleProxy) update(id uint64, port uint16, _ uint8, rules policy.L7DataMap) error {
	return p.UpdateAllowed(id, port, rules)
}

func oraclePort(port uint16, _ uint8) uint16 { return port }

func init() {
	OracleFunctions["dnsproxy.Pattern"] = func(rules oracleRules) (string, error) {
		selector := &oracleSelector{}
		made, err := GetSelectorRegexMap(policy.L7DataMap{selector: rules.l7()})
		if err != nil {
			return "", err
		}
		return made[selector].String(), nil
	}
}
