package main

import (
	"encoding"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/bootstrap/apply"
	"vault-plugin-secrets-mcp/bootstrap/doctor"
	"vault-plugin-secrets-mcp/bootstrap/pins"
	"vault-plugin-secrets-mcp/test/doctable"
)

// TestThePageHasEachFieldOfJSON compares the answers for machines with docs/bootstrap.md.
func TestThePageHasEachFieldOfJSON(t *testing.T) {
	rows, err := doctable.Read("../../../docs/bootstrap.md", "## JSON of commands")
	require.NoError(t, err)
	documented := map[string][]string{}
	for _, row := range rows {
		for _, command := range doctable.Names(row[0]) {
			documented[command] = append(documented[command], doctable.Names(row[1])...)
		}
	}
	answers := map[string]any{
		"apply": apply.Report{}, "doctor": doctor.Report{}, "pins list": []pins.Summary{}, "pins list SERVER": pins.State{},
		"pins list SERVER NAME": []pins.Item{}, "pins diff SERVER": pins.Choice{},
	}
	for command, answer := range answers {
		fields := map[string]bool{}
		addFields(fields, reflect.TypeOf(answer))
		var names []string
		for name := range fields {
			names = append(names, name)
		}
		slices.Sort(names)
		slices.Sort(documented[command])
		require.Equal(t, names, slices.Compact(documented[command]), command)
		delete(documented, command)
	}
	require.Empty(t, documented)
}

// addFields adds the names of the fields that a type has in JSON, at every depth.
func addFields(to map[string]bool, of reflect.Type) {
	switch {
	case of.Implements(reflect.TypeFor[encoding.TextMarshaler]()):
	case of.Kind() == reflect.Pointer, of.Kind() == reflect.Slice:
		addFields(to, of.Elem())
	case of.Kind() == reflect.Struct:
		for field := range of.Fields() {
			name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			if name != "" {
				to[name] = true
			}
			if field.IsExported() {
				addFields(to, field.Type)
			}
		}
	}
}
