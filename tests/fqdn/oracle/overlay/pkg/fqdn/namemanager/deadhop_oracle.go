//go:build cilium1_18

package namemanager

import (
	"context"
	"fmt"
	"net/netip"
	"sort"
	"strings"
	"time"

	"github.com/cilium/cilium/pkg/endpoint"
	"github.com/cilium/cilium/pkg/fqdn"
	"github.com/cilium/cilium/pkg/ipcache"
	"github.com/cilium/cilium/pkg/labels"
	"github.com/cilium/cilium/pkg/policy/api"
)

// OracleFunctions are what the oracle calls.
var OracleFunctions = map[string]any{"namemanager.New": newOracleManager}

// oracleIPCache keeps what the name manager writes, by address and by name.
type oracleIPCache struct {
	labels   map[string]map[string][]string
	revision uint64
	waited   uint64
}

func (c *oracleIPCache) UpsertMetadataBatch(updates ...ipcache.MU) uint64 {
	for _, update := range updates {
		ip, name := update.Prefix.AsPrefix().Addr().String(), string(update.Resource)
		listed := []string{}
		for _, metadata := range update.Metadata {
			for _, label := range metadata.(labels.Labels) {
				listed = append(listed, label.String())
			}
		}
		sort.Strings(listed)
		if c.labels[ip] == nil {
			c.labels[ip] = map[string][]string{}
		}
		c.labels[ip][name[strings.LastIndex(name, "/")+1:]] = listed
	}
	c.revision++
	return c.revision
}

func (c *oracleIPCache) RemoveMetadataBatch(updates ...ipcache.MU) uint64 {
	for _, update := range updates {
		ip, name := update.Prefix.AsPrefix().Addr().String(), string(update.Resource)
		delete(c.labels[ip], name[strings.LastIndex(name, "/")+1:])
		if len(c.labels[ip]) == 0 {
			delete(c.labels, ip)
		}
	}
	c.revision++
	return c.revision
}

func (c *oracleIPCache) WaitForRevision(_ context.Context, revision uint64) error {
	c.waited = revision
	return nil
}

type oracleEndpoints struct{ known map[int]*endpoint.Endpoint }

func (e *oracleEndpoints) Lookup(id string) (*endpoint.Endpoint, error) {
	return nil, fmt.Errorf("no endpoint %s", id)
}

func (e *oracleEndpoints) GetEndpoints() []*endpoint.Endpoint {
	found := []*endpoint.Endpoint{}
	for _, one := range e.known {
		found = append(found, one)
	}
	return found
}

// OracleManager is a name manager with two endpoints that come and go. Times are seconds from now.
type OracleManager struct {
	*manager
	ipc   *oracleIPCache
	known *oracleEndpoints
	all   map[int]*endpoint.Endpoint
	base  time.Time
}

func newOracleManager(minTTL, limit int, bootstrapped bool) *OracleManager {
	made := &OracleManager{
		ipc:   &oracleIPCache{labels: map[string]map[string][]string{}},
		known: &oracleEndpoints{known: map[int]*endpoint.Endpoint{}},
		all:   map[int]*endpoint.Endpoint{},
		base:  time.Now(),
	}
	for id := 1; id <= 2; id++ {
		made.all[id] = &endpoint.Endpoint{
			ID:         uint16(id),
			DNSHistory: fqdn.NewDNSCacheWithLimit(0, limit),
			DNSZombies: fqdn.NewDNSZombieMappings(fqdn.OracleLogger, 10000, limit),
		}
	}
	made.manager = New(ManagerParams{
		Logger:  fqdn.OracleLogger,
		Config:  NameManagerConfig{MinTTL: minTTL, DNSProxyLockCount: 1},
		IPCache: made.ipc,
		EPMgr:   made.known,
	})
	made.bootstrapCompleted = bootstrapped
	return made
}

func (m *OracleManager) at(seconds int) time.Time {
	return m.base.Add(time.Duration(seconds) * time.Second)
}

// Register lets a policy use a selector.
func (m *OracleManager) Register(selector api.FQDNSelector) { m.RegisterFQDNSelector(selector) }

// Unregister ends that.
func (m *OracleManager) Unregister(selector api.FQDNSelector) { m.UnregisterFQDNSelector(selector) }

// Attach makes an endpoint known.
func (m *OracleManager) Attach(id int) { m.known.known[id] = m.all[id] }

// Detach forgets it.
func (m *OracleManager) Detach(id int) { delete(m.known.known, id) }

// History tells the endpoint's own cache.
func (m *OracleManager) History(id, at int, name string, ips []netip.Addr, ttl int) {
	m.all[id].DNSHistory.Update(m.at(at), name, ips, ttl)
}

// Learn tells the name manager; the answer is whether the reply waits for ipcache.
func (m *OracleManager) Learn(id, at int, name string, ips []netip.Addr, ttl int) (bool, error) {
	done := m.learn(m.at(at), name, &fqdn.DNSIPRecords{TTL: ttl, IPs: ips}, m.all[id].DNSHistory)
	err := <-done
	return m.ipc.waited > 0, err
}

// Conntrack is a complete pass of conntrack GC that saw a flow to each address.
func (m *OracleManager) Conntrack(id, at int, ips []netip.Addr) {
	for _, ip := range ips {
		m.all[id].DNSZombies.MarkAlive(m.at(at), ip)
	}
	m.all[id].DNSZombies.SetCTGCTime(m.at(at), m.at(at+60))
}

// Collect runs the DNS GC.
func (m *OracleManager) Collect() error { return m.doGC(context.Background()) }

// Metadata are the labels by address and name.
func (m *OracleManager) Metadata() map[string]map[string][]string { return m.ipc.labels }

// Global is the content of the global cache.
func (m *OracleManager) Global() map[string][]string {
	found := map[string][]string{}
	for ip, names := range m.cache.GetIPs() {
		for _, name := range names {
			found[name] = append(found[name], ip.String())
		}
	}
	for _, ips := range found {
		sort.Strings(ips)
	}
	return found
}
