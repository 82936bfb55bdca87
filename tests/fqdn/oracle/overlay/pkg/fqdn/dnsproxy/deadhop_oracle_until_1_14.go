//go:build !cilium1_15

package dnsproxy

import "github.com/cilium/cilium/pkg/identity"

func (s *oracleSelector) GetSelections() []identity.NumericIdentity { return s.identities }
