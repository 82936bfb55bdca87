package restore

// OracleFunctions are the functions the oracle calls.
var OracleFunctions = map[string]any{}
