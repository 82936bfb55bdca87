//go:build cilium1_17

package api

func init() {
	OracleFunctions["api.EgressRule.sanitize"] = func(e *EgressRule) error { return e.sanitize(false) }
}
