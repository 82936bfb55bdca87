//go:build cilium1_18

package main

import (
	"strings"

	"google.golang.org/protobuf/encoding/protojson"

	flowpb "github.com/cilium/cilium/api/v1/flow"
	"github.com/cilium/cilium/api/v1/observer"
	"github.com/cilium/cilium/hubble/pkg/printer"
	"github.com/cilium/cilium/pkg/fqdn/namemanager"
	"github.com/cilium/cilium/pkg/hubble/parser/seven"
)

func init() {
	for _, more := range []map[string]any{namemanager.OracleFunctions, seven.OracleFunctions} {
		for name, function := range more {
			functions[name] = function
		}
	}
	functions["printer.compact"] = compact
}

// compact prints one flow as "hubble observe -o compact" does.
func compact(text string, node bool) (string, error) {
	flow := &flowpb.Flow{}
	if err := protojson.Unmarshal([]byte(text), flow); err != nil {
		return "", err
	}
	out := &strings.Builder{}
	options := []printer.Option{
		printer.Compact(), printer.Writer(out), printer.WithColor("never"), printer.WithIPTranslation(),
	}
	if node {
		options = append(options, printer.WithNodeName())
	}
	writer := printer.New(options...)
	err := writer.WriteProtoFlow(&observer.GetFlowsResponse{
		ResponseTypes: &observer.GetFlowsResponse_Flow{Flow: flow},
	})
	if err == nil {
		err = writer.Close()
	}
	return out.String(), err
}
