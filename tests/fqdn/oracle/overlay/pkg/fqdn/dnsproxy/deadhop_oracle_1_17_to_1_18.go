//go:build cilium1_17 && !cilium1_19

package dnsproxy

import (
	"github.com/cilium/cilium/pkg/container/versioned"
	"github.com/cilium/cilium/pkg/fqdn/restore"
	"github.com/cilium/cilium/pkg/identity"
)

func (s *oracleSelector) GetSelections(*versioned.VersionHandle) identity.NumericIdentitySlice {
	return s.identities
}

func (s *oracleSelector) Selects(_ *versioned.VersionHandle, id identity.NumericIdentity) bool {
	return s.selects(id)
}

// Rules are what would be saved.
func (p *OracleProxy) Rules(id uint16) (restore.DNSRules, error) {
	return p.GetRules(versioned.Latest(), id)
}
