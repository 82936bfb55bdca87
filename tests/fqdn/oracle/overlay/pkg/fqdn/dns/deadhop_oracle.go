package dns

// OracleFunctions are what the package does not export and the oracle calls.
var OracleFunctions = map[string]any{
	"dns.FQDN":   FQDN,
	"dns.isFQDN": isFQDN,
}
