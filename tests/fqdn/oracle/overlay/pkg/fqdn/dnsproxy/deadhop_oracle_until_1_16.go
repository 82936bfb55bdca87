//go:build !cilium1_17

package dnsproxy

import (
	"net"
	"reflect"

	"github.com/cilium/cilium/pkg/fqdn/restore"
	"github.com/cilium/cilium/pkg/identity"
)

func (s *oracleSelector) Selects(id identity.NumericIdentity) bool { return s.selects(id) }

func oracleKey(ip string, _ reflect.Type) reflect.Value { return reflect.ValueOf(ip) }

// Check asks for one name.
func (p *OracleProxy) Check(id uint64, port uint16, protocol uint8, to uint32, ip, name string) (bool, error) {
	return p.CheckAllowed(id, oraclePort(port, protocol), identity.NumericIdentity(to), net.ParseIP(ip), name)
}

// Rules are what would be saved.
func (p *OracleProxy) Rules(id uint16) (restore.DNSRules, error) { return p.GetRules(id) }
