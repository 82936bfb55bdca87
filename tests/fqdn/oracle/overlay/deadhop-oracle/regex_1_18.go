//go:build cilium1_18 && !cilium1_19

package main

import (
	"github.com/cilium/cilium/pkg/fqdn"
	"github.com/cilium/cilium/pkg/fqdn/re"
)

func init() {
	if err := re.InitRegexCompileLRU(fqdn.OracleLogger, 1024); err != nil {
		panic(err)
	}
}
