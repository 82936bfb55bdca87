//go:build !cilium1_20

package dnsproxy

import "github.com/cilium/dns"

func extract(message *dns.Msg) (any, error) {
	name, ips, ttl, cnames, rcode, answerTypes, qTypes, err := ExtractMsgDetails(message)
	return oracleDetails{name, ips, ttl, cnames, rcode, answerTypes, qTypes}, err
}
