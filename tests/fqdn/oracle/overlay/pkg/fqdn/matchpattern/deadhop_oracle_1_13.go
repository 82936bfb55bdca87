//go:build !cilium1_14

package matchpattern

func init() { OracleFunctions["matchpattern.ToAnchoredRegexp"] = ToRegexp }
