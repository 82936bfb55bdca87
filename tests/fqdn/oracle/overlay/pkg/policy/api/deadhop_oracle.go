package api

// OracleFunctions are what the package does not export and the oracle calls.
var OracleFunctions = map[string]any{
	"api.FQDNSelector.sanitize": (*FQDNSelector).sanitize,
	"api.FQDNSelector.String":   (*FQDNSelector).String,
	"api.FQDNSelector.ToRegex":  (*FQDNSelector).ToRegex,
	"api.PortRuleDNS.Sanitize":  (*PortRuleDNS).Sanitize,
	"api.PortRule.sanitize":     (*PortRule).sanitize,
}
