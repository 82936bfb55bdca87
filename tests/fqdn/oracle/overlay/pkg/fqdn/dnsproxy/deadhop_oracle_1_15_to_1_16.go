//go:build cilium1_15 && !cilium1_17

package dnsproxy

import "github.com/cilium/cilium/pkg/identity"

func (s *oracleSelector) GetSelections() identity.NumericIdentitySlice { return s.identities }
