package terraform

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/typeexpr"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/stretchr/testify/require"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// module is a folder of Terraform files with values for its variables. It evaluates expressions
// as Terraform does, as far as these files need it: things that an expression refers to come
// first.
type module struct {
	t         *testing.T
	dir       string
	blocks    map[string]*hclsyntax.Block // variables, resources and the like, by address
	addresses []string                    // of resources, in the files' order
	locals    map[string]hclsyntax.Expression
	given     map[string]cty.Value
	values    map[string]cty.Value // the evaluated values, by address
	provider  *provider
	states    []*instance // in the order in which they were made
}

// instance is one of a resource: its state is the one that the provider would keep.
type instance struct {
	address string
	kind    string
	config  attributes
	id      string
	state   attributes
}

// readModule reads a folder. Without values for its variables, these have their defaults.
func readModule(t *testing.T, dir string, p *provider, given map[string]cty.Value) *module {
	t.Helper()
	m := &module{
		t: t, dir: dir, blocks: map[string]*hclsyntax.Block{}, locals: map[string]hclsyntax.Expression{},
		given: given, values: map[string]cty.Value{}, provider: p,
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.tf"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, path := range files {
		content, err := os.ReadFile(path)
		require.NoError(t, err)
		file, diags := hclsyntax.ParseConfig(content, path, hcl.InitialPos)
		require.False(t, diags.HasErrors(), diags)
		for _, block := range file.Body.(*hclsyntax.Body).Blocks {
			m.add(block)
		}
	}
	for name := range given {
		require.Contains(t, m.blocks, "var."+name)
	}
	return m
}

func (m *module) add(block *hclsyntax.Block) {
	switch block.Type {
	case "variable":
		m.blocks["var."+block.Labels[0]] = block
	case "output", "module":
		m.blocks[block.Type+"."+block.Labels[0]] = block
	case "locals":
		for name, attribute := range block.Body.Attributes {
			m.locals[name] = attribute.Expr
		}
	case "resource", "data":
		address := block.Labels[0] + "." + block.Labels[1]
		if block.Type == "data" {
			address = "data." + address
		} else {
			m.addresses = append(m.addresses, address)
		}
		m.blocks[address] = block
	case "terraform", "provider":
	default:
		m.t.Fatalf("%s: the test knows no block %q", block.DefRange(), block.Type)
	}
}

// called is the module that a module's block calls, with the values there.
func (m *module) called(name string) *module {
	m.t.Helper()
	given := map[string]cty.Value{}
	body := m.blocks["module."+name].Body
	for field, attribute := range body.Attributes {
		if field != "source" {
			given[field] = m.eval(attribute.Expr, nil)
		}
	}
	source := m.eval(body.Attributes["source"].Expr, nil).AsString()
	return readModule(m.t, filepath.Join(m.dir, source), m.provider, given)
}

// eval evaluates an expression, and first everything that it refers to.
func (m *module) eval(expression hcl.Expression, each map[string]cty.Value) cty.Value {
	m.t.Helper()
	scope := map[string]map[string]cty.Value{
		"path": {"module": cty.StringVal(m.dir)},
		"each": each,
	}
	for _, traversal := range expression.Variables() {
		root := traversal.RootName()
		if root == "path" || root == "each" {
			continue
		}
		name := traversal[1].(hcl.TraverseAttr).Name
		if root == "data" {
			kind, name := name, traversal[2].(hcl.TraverseAttr).Name
			if scope[root] == nil {
				scope[root] = map[string]cty.Value{}
			}
			scope[root][kind] = cty.ObjectVal(map[string]cty.Value{name: m.value("data." + kind + "." + name)})
			continue
		}
		if scope[root] == nil {
			scope[root] = map[string]cty.Value{}
		}
		scope[root][name] = m.value(root + "." + name)
	}
	variables := map[string]cty.Value{}
	for root, values := range scope {
		variables[root] = cty.ObjectVal(values)
	}
	value, diags := expression.Value(&hcl.EvalContext{Variables: variables, Functions: functions})
	require.False(m.t, diags.HasErrors(), diags)
	return value
}

// value is that of a variable, a local value or a resource, which is made first.
func (m *module) value(address string) cty.Value {
	m.t.Helper()
	if value, ok := m.values[address]; ok {
		return value
	}
	var value cty.Value
	switch root, name, _ := cut(address); root {
	case "var":
		value = m.variable(name)
	case "local":
		require.Contains(m.t, m.locals, name)
		value = m.eval(m.locals[name], nil)
	default:
		value = m.resource(address)
	}
	m.values[address] = value
	return value
}

// variable is the value that was given, or the default, in the variable's type.
func (m *module) variable(name string) cty.Value {
	m.t.Helper()
	block := m.blocks["var."+name]
	require.NotNil(m.t, block, "no variable %s", name)
	fields := block.Body.Attributes
	kind, defaults, diags := typeexpr.TypeConstraintWithDefaults(fields["type"].Expr)
	require.False(m.t, diags.HasErrors(), diags)
	value, ok := m.given[name]
	nullable := fields["nullable"] == nil || m.eval(fields["nullable"].Expr, nil).True()
	if !ok || value.IsNull() && !nullable {
		require.Contains(m.t, fields, "default", "no value for %s", name)
		value = m.eval(fields["default"].Expr, nil)
	}
	if defaults != nil && !value.IsNull() {
		value = defaults.Apply(value)
	}
	value, err := convert.Convert(value, kind)
	require.NoError(m.t, err, "variable %s", name)
	m.values["var."+name] = value
	for _, block := range block.Body.Blocks {
		if block.Type == "validation" && !m.eval(block.Body.Attributes["condition"].Expr, nil).True() {
			m.t.Fatalf("%s: %s", name, m.eval(block.Body.Attributes["error_message"].Expr, nil).AsString())
		}
	}
	return value
}

// resource makes every instance of a resource, or reads a data source, and returns them as
// expressions see them.
func (m *module) resource(address string) cty.Value {
	m.t.Helper()
	block := m.blocks[address]
	require.NotNil(m.t, block, "nothing has the address %s", address)
	if dependencies := block.Body.Attributes["depends_on"]; dependencies != nil {
		for _, traversal := range dependencies.Expr.Variables() {
			m.value(traversal.RootName() + "." + traversal[1].(hcl.TraverseAttr).Name)
		}
	}
	if count := block.Body.Attributes["count"]; count != nil {
		n, _ := m.eval(count.Expr, nil).AsBigFloat().Int64()
		made := make([]cty.Value, n)
		for i := range made {
			made[i] = m.make(block, fmt.Sprintf("%s[%d]", address, i), nil)
		}
		return cty.TupleVal(made)
	}
	each := m.eval(block.Body.Attributes["for_each"].Expr, nil).AsValueMap()
	made := map[string]cty.Value{}
	for _, key := range slices.Sorted(maps.Keys(each)) {
		made[key] = m.make(block, fmt.Sprintf("%s[%q]", address, key), map[string]cty.Value{"key": cty.StringVal(key), "value": each[key]})
	}
	return cty.ObjectVal(made)
}

// make evaluates one instance, and has the provider make it.
func (m *module) make(block *hclsyntax.Block, address string, each map[string]cty.Value) cty.Value {
	m.t.Helper()
	config := map[string]cty.Value{}
	for name, attribute := range block.Body.Attributes {
		if !slices.Contains([]string{"count", "for_each", "depends_on"}, name) {
			config[name] = m.eval(attribute.Expr, each)
		}
	}
	one := &instance{address: address, kind: block.Labels[0], config: plain(m.t, config)}
	if block.Type == "data" {
		one.kind = "data." + one.kind
	}
	m.provider.create(one)
	if block.Type == "resource" {
		m.states = append(m.states, one)
	}
	return expressible(m.t, one)
}

// apply makes every resource.
func (m *module) apply() {
	m.t.Helper()
	for _, address := range m.addresses {
		m.value(address)
	}
}

// output is the value of an output.
func (m *module) output(name string) cty.Value {
	m.t.Helper()
	return m.eval(m.blocks["output."+name].Body.Attributes["value"].Expr, nil)
}

// differences lists the values that Terraform would write and that differ from the configuration.
func (m *module) differences() []string {
	m.t.Helper()
	var addresses []string
	for _, one := range m.states {
		if difference := m.provider.plan(one); difference != "" {
			addresses = append(addresses, one.address+": "+difference)
		}
	}
	return addresses
}
