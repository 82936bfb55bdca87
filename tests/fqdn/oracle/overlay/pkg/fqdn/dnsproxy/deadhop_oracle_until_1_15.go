//go:build !cilium1_16

package dnsproxy

import "github.com/cilium/cilium/pkg/identity"

func (s *oracleSelector) GetSelections() []identity.NumericIdentity { return s.identities }
