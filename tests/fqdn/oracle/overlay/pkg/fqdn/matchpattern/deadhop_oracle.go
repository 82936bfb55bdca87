package matchpattern

// OracleFunctions are the functions the oracle calls.
var OracleFunctions = map[string]any{
	"matchpattern.Sanitize": Sanitize,
	"matchpattern.Validate": ValidateWithoutCache,
}
