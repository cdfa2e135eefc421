package config_test

import (
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core/config"
)

func TestReference(t *testing.T) {
	t.Parallel()
	own := reflect.TypeFor[listener]()
	want := []config.Setting{
		{Name: "kind", Kind: config.KindLabel, Type: "string", Required: true, Struct: own, Field: "Kind"},
		{Name: "name", Kind: config.KindLabel, Type: "string", Struct: own, Field: "Name"},
		{Name: "address", Kind: config.KindAttribute, Type: "list of strings", Example: `["text"]`, Required: true, Struct: own, Field: "Address"},
		{Name: "max_size", Kind: config.KindAttribute, Type: "size", Example: `"25MB"`, Default: "50MB", HasDefault: true, Min: "1KB", Max: "1GB", Struct: own, Field: "MaxSize"},
		{Name: "timeout", Kind: config.KindAttribute, Type: "duration", Example: `"15m"`, Default: "5m", HasDefault: true, Min: "1s", Struct: own, Field: "Timeout"},
		{Name: "limits", Kind: config.KindBlock, Example: "limits", Struct: own, Field: "Limits", Settings: []config.Setting{
			{Name: "sessions", Kind: config.KindAttribute, Type: "whole number", Example: "10", Default: "100", HasDefault: true, Struct: reflect.TypeFor[limits](), Field: "Sessions"},
		}},
		{Name: "chain", Kind: config.KindBlock, Example: "chain", Struct: own, Field: "Chain"},
	}
	sameType := cmp.Comparer(func(a, b reflect.Type) bool { return a == b })
	if diff := cmp.Diff(want, config.Reference(reflect.TypeFor[*listener]()), sameType); diff != "" {
		t.Errorf("reference (-want +got):\n%s", diff)
	}
}

func TestReferenceTypes(t *testing.T) {
	t.Parallel()
	want := map[string]string{
		"text": "string", "truth": "bool", "small": "whole number", "count": "whole number", "factor": "number",
		"time": "duration", "size": "size", "rate": "rate", "ip": "IP address", "endpoint": "IP address with port",
		"network": "network", "mail_address": "string", "texts": "list of strings", "networks": "list of networks",
		"lists": "map of lists of whole numbers", "names": "map of strings", "maybe": "whole number",
		"maybe_time": "duration", "choice": "string", "choices": "list of strings", "bounded": "whole number",
		"patience": "list of durations", "expr": "expression",
	}
	got := make(map[string]string)
	for _, s := range config.Reference(reflect.TypeFor[all]()) {
		got[s.Name] = s.Type
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("types (-want +got):\n%s", diff)
	}
}

// TestReferenceEmbedded holds that an embedded struct's settings are found where
// they are declared, and that a block of its own type comes to an end.
func TestReferenceEmbedded(t *testing.T) {
	t.Parallel()
	first := config.Reference(reflect.TypeFor[outer]())[0]
	if first.Name != "zone" || first.Struct != reflect.TypeFor[shared]() || first.Field != "Zone" {
		t.Errorf("embedded: %+v", first)
	}
	last := config.Reference(reflect.TypeFor[rest]())[1]
	if last.Kind != config.KindBlocks || last.Name != "" || !last.Repeated {
		t.Errorf("remain: %+v", last)
	}
	node := config.Reference(reflect.TypeFor[tree]())[1]
	if !node.Repeated || node.Settings != nil {
		t.Errorf("recursive: %+v", node)
	}
	single := config.Reference(reflect.TypeFor[outer]())[1]
	if single.Example != `single "KEY"` {
		t.Errorf("block with a label: %q", single.Example)
	}
}
