//go:build cilium1_17

package dnsproxy

import (
	"net/netip"
	"reflect"

	"github.com/cilium/cilium/pkg/identity"
)

func oracleKey(ip string, _ reflect.Type) reflect.Value {
	return reflect.ValueOf(netip.MustParseAddr(ip))
}

// Check asks for one name.
func (p *OracleProxy) Check(id uint64, port uint16, protocol uint8, to uint32, ip, name string) (bool, error) {
	return p.CheckAllowed(id, oraclePort(port, protocol), identity.NumericIdentity(to), netip.MustParseAddr(ip), name)
}
