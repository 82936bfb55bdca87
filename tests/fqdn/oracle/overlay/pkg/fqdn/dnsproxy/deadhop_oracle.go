package dnsproxy

import (
	"encoding/json"
	"reflect"
	"sort"
	"unsafe"

	"github.com/cilium/dns"

	"github.com/cilium/cilium/pkg/endpoint"
	"github.com/cilium/cilium/pkg/identity"
	"github.com/cilium/cilium/pkg/policy"
	"github.com/cilium/cilium/pkg/policy/api"
)

// OracleFunctions are what the oracle calls.
var OracleFunctions = map[string]any{
	"dnsproxy.New":      newOracleProxy,
	"dnsproxy.Extract":  oracleExtract,
	"dnsproxy.Compress": oracleCompress,
}

// oracleRules is one selector with its DNS rules; Any selects every identity, no rules are not an empty list.
type oracleRules struct {
	Any        bool
	Identities []uint32
	DNS        []api.PortRuleDNS
	Plain      bool
}

func (r oracleRules) l7() *policy.PerSelectorPolicy {
	if r.Plain {
		return nil
	}
	return &policy.PerSelectorPolicy{L7Rules: api.L7Rules{DNS: r.DNS}}
}

type oracleSelector struct {
	policy.CachedSelector
	all        bool
	identities []identity.NumericIdentity
}

func (s *oracleSelector) IsWildcard() bool { return s.all }

func (s *oracleSelector) String() string { return "selector" }

func (s *oracleSelector) selects(wanted identity.NumericIdentity) bool {
	for _, one := range s.identities {
		if one == wanted {
			return true
		}
	}
	return s.all
}

// OracleProxy is a proxy that listens nowhere.
type OracleProxy struct {
	*DNSProxy
	addresses map[uint32][]string
}

func newOracleProxy(limit int, addresses map[uint32][]string) *OracleProxy {
	made := &OracleProxy{DNSProxy: &DNSProxy{}, addresses: addresses}
	fields := reflect.ValueOf(made.DNSProxy).Elem()
	for at := 0; at < fields.NumField(); at++ {
		if field := fields.Field(at); field.Kind() == reflect.Map {
			open := reflect.NewAt(field.Type(), unsafe.Pointer(field.UnsafeAddr())).Elem()
			open.Set(reflect.MakeMap(field.Type()))
		}
	}
	made.maxIPsPerRestoredDNSRule = limit
	made.prepare()
	return made
}

func (p *OracleProxy) ips(id identity.NumericIdentity) []string { return p.addresses[uint32(id)] }

// Used notes a DNS server that was asked.
func (p *OracleProxy) Used(ip string) {
	keys := reflect.ValueOf(p.usedServers)
	keys.SetMapIndex(oracleKey(ip, keys.Type().Key()), reflect.ValueOf(struct{}{}))
}

// Update sets the rules of one port.
func (p *OracleProxy) Update(id uint64, port uint16, protocol uint8, rules []oracleRules) error {
	listed := policy.L7DataMap{}
	for _, one := range rules {
		selector := &oracleSelector{all: one.Any}
		for _, id := range one.Identities {
			selector.identities = append(selector.identities, identity.NumericIdentity(id))
		}
		listed[selector.cached()] = one.l7()
	}
	return p.update(id, port, protocol, listed)
}

// Restore installs rules as a state file has them.
func (p *OracleProxy) Restore(id uint16, rules json.RawMessage) error {
	restored := &endpoint.Endpoint{ID: id}
	if err := json.Unmarshal(rules, &restored.DNSRules); err != nil {
		return err
	}
	p.RestoreRules(restored)
	return nil
}

// Restored lists the endpoints that have restored rules.
func (p *OracleProxy) Restored() []int {
	ids := []int{}
	for id := range p.restored {
		ids = append(ids, int(id))
	}
	sort.Ints(ids)
	return ids
}

// Allowed counts the ports of an endpoint that have rules.
func (p *OracleProxy) Allowed(id uint64) int { return len(p.allowed[id]) }

type oracleDetails struct {
	QName       string
	IPs         any
	TTL         uint32
	CNAMEs      []string
	RCode       int
	AnswerTypes []uint16
	QTypes      []uint16
}

func unpack(packed []int) (*dns.Msg, error) {
	raw := make([]byte, 0, len(packed))
	for _, one := range packed {
		raw = append(raw, byte(one))
	}
	message := new(dns.Msg)
	return message, message.Unpack(raw)
}

func oracleExtract(packed []int) (any, error) {
	message, err := unpack(packed)
	if err != nil {
		return nil, err
	}
	return extract(message)
}

func oracleCompress(request, response []int) (bool, error) {
	asked, err := unpack(request)
	if err != nil {
		return false, err
	}
	answered, err := unpack(response)
	if err != nil {
		return false, err
	}
	return shouldCompressResponse(asked, answered), nil
}

// RulesJSON are what would be saved, as the state file has them.
func (p *OracleProxy) RulesJSON(id uint16) (string, error) {
	rules, err := p.Rules(id)
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(rules)
	return string(text), err
}
