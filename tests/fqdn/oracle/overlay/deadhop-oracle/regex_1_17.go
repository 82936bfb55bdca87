//go:build !cilium1_18

package main

import "github.com/cilium/cilium/pkg/fqdn/re"

func init() {
	if err := re.InitRegexCompileLRU(1024); err != nil {
		panic(err)
	}
}
