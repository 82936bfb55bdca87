//go:build !cilium1_17

package api

func init() { OracleFunctions["api.EgressRule.sanitize"] = (*EgressRule).sanitize }
