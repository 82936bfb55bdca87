//go:build cilium1_18

package fqdn

import (
	"context"
	"log/slog"
)

type oracleHandler struct{ warnings []string }

func (h *oracleHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn
}

func (h *oracleHandler) Handle(_ context.Context, record slog.Record) error {
	h.warnings = append(h.warnings, record.Message)
	return nil
}

func (h *oracleHandler) WithAttrs([]slog.Attr) slog.Handler { return h }

func (h *oracleHandler) WithGroup(string) slog.Handler { return h }

var oracleLog = &oracleHandler{}

// OracleLogger keeps warnings for OracleWarnings.
var OracleLogger = slog.New(oracleLog)

// OracleWarnings takes the warnings since the last call.
var OracleWarnings = func() []string {
	taken := oracleLog.warnings
	oracleLog.warnings = nil
	return taken
}

func init() {
	OracleFunctions["fqdn.NewDNSZombieMappings"] = func(max, perHostLimit int) *DNSZombieMappings {
		return NewDNSZombieMappings(OracleLogger, max, perHostLimit)
	}
}
