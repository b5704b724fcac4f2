package terraform

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2/ext/tryfunc"
	"github.com/stretchr/testify/require"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
	ctyjson "github.com/zclconf/go-cty/cty/json"
)

// functions are those of Terraform that the module and its examples call.
var functions = map[string]function.Function{
	"can": tryfunc.CanFunc, "try": tryfunc.TryFunc,
	"coalesce": stdlib.CoalesceFunc, "contains": stdlib.ContainsFunc, "keys": stdlib.KeysFunc,
	"length": length, "merge": stdlib.MergeFunc, "regex": stdlib.RegexFunc,
	"setsubtract": stdlib.SetSubtractFunc, "setunion": stdlib.SetUnionFunc, "sort": stdlib.SortFunc,
	"split": stdlib.SplitFunc, "values": stdlib.ValuesFunc,
	"jsondecode": stdlib.JSONDecodeFunc, "jsonencode": stdlib.JSONEncodeFunc,
	"alltrue": allTrue, "one": one, "replace": replace, "file": readFile,
}

// replace takes a text between slashes for a regular expression, as Terraform does.
var replace = function.New(&function.Spec{
	Params: []function.Parameter{{Name: "text", Type: cty.String}, {Name: "old", Type: cty.String}, {Name: "new", Type: cty.String}},
	Type:   function.StaticReturnType(cty.String),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		text, old, replacement := args[0].AsString(), args[1].AsString(), args[2].AsString()
		if len(old) > 1 && strings.HasPrefix(old, "/") && strings.HasSuffix(old, "/") {
			pattern, err := regexp.Compile(old[1 : len(old)-1])
			if err != nil {
				return cty.NilVal, err
			}
			return cty.StringVal(pattern.ReplaceAllString(text, replacement)), nil
		}
		return cty.StringVal(strings.ReplaceAll(text, old, replacement)), nil
	},
})

var allTrue = function.New(&function.Spec{
	Params: []function.Parameter{{Name: "list", Type: cty.List(cty.Bool)}},
	Type:   function.StaticReturnType(cty.Bool),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		for _, value := range args[0].AsValueSlice() {
			if value.False() {
				return cty.False, nil
			}
		}
		return cty.True, nil
	},
})

// length is that of objects, too.
var length = function.New(&function.Spec{
	Params: []function.Parameter{{Name: "collection", Type: cty.DynamicPseudoType}},
	Type:   function.StaticReturnType(cty.Number),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		return cty.NumberIntVal(int64(args[0].LengthInt())), nil
	},
})

// one is the only element, or null.
var one = function.New(&function.Spec{
	Params: []function.Parameter{{Name: "list", Type: cty.DynamicPseudoType}},
	Type:   function.StaticReturnType(cty.String),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		values := args[0].AsValueSlice()
		if len(values) == 0 {
			return cty.NullVal(cty.String), nil
		}
		return values[0], nil
	},
})

// readFile reads a file. The module's paths begin with path.module.
var readFile = function.New(&function.Spec{
	Params: []function.Parameter{{Name: "path", Type: cty.String}},
	Type:   function.StaticReturnType(cty.String),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		content, err := os.ReadFile(filepath.Clean(args[0].AsString()))
		return cty.StringVal(string(content)), err
	},
})

// plain are values as Go's JSON has them. A null value is left out: it counts as not named.
func plain(t *testing.T, values map[string]cty.Value) attributes {
	t.Helper()
	all := attributes{}
	for name, value := range values {
		if value.IsNull() {
			continue
		}
		encoded, err := json.Marshal(ctyjson.SimpleJSONValue{Value: value})
		require.NoError(t, err)
		var one any
		require.NoError(t, json.Unmarshal(encoded, &one))
		all[name] = one
	}
	return all
}

// expressible is an instance's state as expressions see it.
func expressible(t *testing.T, one *instance) cty.Value {
	t.Helper()
	encoded, err := json.Marshal(one.state)
	require.NoError(t, err)
	var value ctyjson.SimpleJSONValue
	require.NoError(t, json.Unmarshal(encoded, &value))
	return value.Value
}

func cut(address string) (root, name string, found bool) { return strings.Cut(address, ".") }
