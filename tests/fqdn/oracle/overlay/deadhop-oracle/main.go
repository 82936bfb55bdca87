package main

import (
	"bufio"
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"text/tabwriter"
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
	"tabwriter":          table,
	"warnings":           func() []string { return fqdn.OracleWarnings() },
	"setIdleGrace": func(seconds int) {
		option.Config.ToFQDNsIdleConnectionGracePeriod = time.Duration(seconds) * time.Second
	},
}

// table aligns lines with the settings of Cilium's commands.
func table(lines []string) (string, error) {
	out := strings.Builder{}
	writer := tabwriter.NewWriter(&out, 5, 0, 3, ' ', 0)
	for _, line := range lines {
		if _, err := writer.Write([]byte(line + "\n")); err != nil {
			return "", err
		}
	}
	err := writer.Flush()
	return out.String(), err
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
