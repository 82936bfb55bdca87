//go:build !cilium1_18

package dnsproxy

func (p *OracleProxy) prepare() { p.LookupIPsBySecID = p.ips }
