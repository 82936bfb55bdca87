//go:build cilium1_14

package matchpattern

func init() {
	OracleFunctions["matchpattern.ToAnchoredRegexp"] = ToAnchoredRegexp
	OracleFunctions["matchpattern.ToUnAnchoredRegexp"] = ToUnAnchoredRegexp
}
