package main

import (
	"bufio"
	"encoding/json"
	"os"
	"regexp"
	"time"

	"github.com/cilium/cilium/pkg/fqdn"
	"github.com/cilium/cilium/pkg/fqdn/dns"
	"github.com/cilium/cilium/pkg/fqdn/dnsproxy"
	"github.com/cilium/cilium/pkg/fqdn/matchpattern"
	"github.com/cilium/cilium/pkg/fqdn/restore"
	"github.com/cilium/cilium/pkg/option"
	"github.com/cilium/cilium/pkg/policy/api"
)

var functions = map[string]any{
	"regexp.MatchString": regexp.MatchString,
	"warnings":           func() []string { return fqdn.OracleWarnings() },
	"setIdleGrace": func(seconds int) {
		option.Config.ToFQDNsIdleConnectionGracePeriod = time.Duration(seconds) * time.Second
	},
}

func main() {
	for _, more := range []map[string]any{
		fqdn.OracleFunctions, dns.OracleFunctions, matchpattern.OracleFunctions, api.OracleFunctions, restore.OracleFunctions,
		dnsproxy.OracleFunctions,
	} {
		for name, function := range more {
			functions[name] = function
		}
	}
	option.Config.EnableL7Proxy = true
	option.Config.EnableICMPRules = true
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<26)
	out := bufio.NewWriter(os.Stdout)
	for lines.Scan() {
		calls := []call{}
		results := []any{}
		if err := json.Unmarshal(lines.Bytes(), &calls); err != nil {
			results = append(results, map[string]any{"bad": err.Error()})
		}
		objects := session{}
		for _, one := range calls {
			results = append(results, objects.run(one))
		}
		encoder := json.NewEncoder(out)
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(results); err != nil {
			panic(err)
		}
		out.Flush()
	}
}
