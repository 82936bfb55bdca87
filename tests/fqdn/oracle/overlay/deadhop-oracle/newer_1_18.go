//go:build cilium1_18

package main

import (
	"github.com/cilium/cilium/pkg/fqdn/namemanager"
	"github.com/cilium/cilium/pkg/hubble/parser/seven"
)

func init() {
	for _, more := range []map[string]any{namemanager.OracleFunctions, seven.OracleFunctions} {
		for name, function := range more {
			functions[name] = function
		}
	}
}
