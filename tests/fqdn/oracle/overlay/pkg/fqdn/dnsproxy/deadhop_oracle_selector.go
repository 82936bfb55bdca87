package dnsproxy

import "github.com/cilium/cilium/pkg/policy"

func (s *oracleSelector) cached() policy.CachedSelector { return s }
