package fqdn

import (
	"fmt"
	"time"
)

// OracleFunctions are what the package does not export and the oracle calls.
var OracleFunctions = map[string]any{
	"fqdn.NewDNSCache":                      NewDNSCache,
	"fqdn.NewDNSCacheWithLimit":             NewDNSCacheWithLimit,
	"fqdn.DNSCache.lookupByTime":            (*DNSCache).lookupByTime,
	"fqdn.DNSCache.lookupIPByTime":          (*DNSCache).lookupIPByTime,
	"fqdn.DNSCache.lookupByRegexpByTime":    (*DNSCache).lookupByRegexpByTime,
	"fqdn.DNSCache.cleanupExpiredEntries":   (*DNSCache).cleanupExpiredEntries,
	"fqdn.DNSCache.cleanupOverLimitEntries": (*DNSCache).cleanupOverLimitEntries,
	"fqdn.DNSCache.names": func(c *DNSCache) []string {
		names := []string{}
		for name := range c.forward {
			names = append(names, name)
		}
		return names
	},
	"fqdn.DNSCache.ips": func(c *DNSCache) []string {
		ips := []string{}
		for ip := range c.reverse {
			ips = append(ips, fmt.Sprint(ip))
		}
		return ips
	},
	"fqdn.gcAndWarnings": func(zombies *DNSZombieMappings) (alive, dead []*DNSZombieMapping, warnings []string) {
		alive, dead = zombies.GC()
		return alive, dead, OracleWarnings()
	},
	"fqdn.gcBoth": func(c *DNSCache, zombies *DNSZombieMappings, now time.Time) (
		names, ips any, alive, dead []*DNSZombieMapping, warnings []string,
	) {
		names = c.GC(now, zombies)
		left := []string{}
		for ip := range c.reverse {
			left = append(left, fmt.Sprint(ip))
		}
		alive, dead = zombies.GC()
		return names, left, alive, dead, OracleWarnings()
	},
	"fqdn.DNSCache.lastCleanup":  func(c *DNSCache) any { return c.lastCleanup },
	"fqdn.DNSCache.cleanupCount": func(c *DNSCache) int { return len(c.cleanup) },
	"fqdn.sortZombies": func(zombies []*DNSZombieMapping) []*DNSZombieMapping {
		sortZombieMappingSlice(zombies)
		return zombies
	},
	"fqdn.zombies": func(zombies *DNSZombieMappings) []*DNSZombieMapping {
		all := []*DNSZombieMapping{}
		for _, zombie := range zombies.deletes {
			all = append(all, zombie.DeepCopy())
		}
		return all
	},
}
