//go:build cilium1_19

package dnsproxy

import (
	"github.com/cilium/cilium/pkg/fqdn"
	"github.com/cilium/cilium/pkg/fqdn/lookup"
	"github.com/cilium/cilium/pkg/fqdn/restore"
	"github.com/cilium/cilium/pkg/identity"
)

func (s *oracleSelector) GetSelections() identity.NumericIdentitySlice { return s.identities }

func (s *oracleSelector) Selects(id identity.NumericIdentity) bool { return s.selects(id) }

// Rules are what would be saved.
func (p *OracleProxy) Rules(id uint16) (restore.DNSRules, error) { return p.GetRules(id) }

type oracleLookup struct {
	lookup.ProxyLookupHandler
	proxy *OracleProxy
}

func (l *oracleLookup) LookupByIdentity(id identity.NumericIdentity) []string { return l.proxy.ips(id) }

func (p *OracleProxy) prepare() {
	p.logger = fqdn.OracleLogger
	p.proxyLookupHandler = &oracleLookup{proxy: p}
}
