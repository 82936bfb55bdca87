//go:build cilium1_16

package api

func init() {
	OracleFunctions["api.FQDNSelector.IdentityLabel"] = func(s *FQDNSelector) string {
		label := s.IdentityLabel()
		return label.String()
	}
}
