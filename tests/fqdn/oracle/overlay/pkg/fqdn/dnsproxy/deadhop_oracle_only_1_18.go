//go:build cilium1_18 && !cilium1_19

package dnsproxy

import (
	"github.com/cilium/cilium/pkg/fqdn"
	"github.com/cilium/cilium/pkg/identity"
)

type oracleLookup struct {
	IPCache
	proxy *OracleProxy
}

func (l *oracleLookup) LookupByIdentity(id identity.NumericIdentity) []string { return l.proxy.ips(id) }

func (p *OracleProxy) prepare() {
	p.logger = fqdn.OracleLogger
	p.ipcache = &oracleLookup{proxy: p}
}
