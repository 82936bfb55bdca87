//go:build cilium1_17

package restore

func init() {
	OracleFunctions["restore.parse"] = func(text string) (bool, string, error) {
		server, err := ParseRuleIPOrCIDR(text)
		return server.IsAddr(), server.String(), err
	}
}
