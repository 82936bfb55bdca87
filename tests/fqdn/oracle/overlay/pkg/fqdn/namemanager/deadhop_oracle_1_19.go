//go:build cilium1_19

package namemanager

import (
	"context"
	"time"

	"github.com/cilium/cilium/pkg/fqdn"
)

func (m *OracleManager) learn(at time.Time, name string, record *fqdn.DNSIPRecords, from *fqdn.DNSCache) <-chan error {
	return m.UpdateGenerateDNS(context.Background(), at, name, record, from)
}
