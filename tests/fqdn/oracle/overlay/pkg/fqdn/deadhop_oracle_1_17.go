//go:build !cilium1_18

package fqdn

import (
	"io"

	"github.com/sirupsen/logrus"

	"github.com/cilium/cilium/pkg/logging"
)

// OracleWarnings takes the warnings since the last call.
var OracleWarnings = func() []string { return nil }

type oracleHook struct{ warnings []string }

func (h *oracleHook) Levels() []logrus.Level { return []logrus.Level{logrus.WarnLevel} }

func (h *oracleHook) Fire(entry *logrus.Entry) error {
	h.warnings = append(h.warnings, entry.Message)
	return nil
}

func init() {
	hook := &oracleHook{}
	logging.DefaultLogger.SetOutput(io.Discard)
	logging.DefaultLogger.AddHook(hook)
	OracleWarnings = func() []string {
		taken := hook.warnings
		hook.warnings = nil
		return taken
	}
	OracleFunctions["fqdn.NewDNSZombieMappings"] = NewDNSZombieMappings
}
