// Package check has the rules for names, and for the fields of servers, clients, config and
// config/kms. The engine applies them at every write, and mcp-bootstrap before its first
// write, so that both refuse the same values with the same words. The package is pure:
// rules that depend on other stored entries are not here.
package check

import (
	"errors"
	"fmt"
)

// Problem is one thing that is refused.
type Problem struct {
	// Field is the field that must be changed; "" for the name.
	Field string

	// Size: it is only too large. An earlier version may have stored it, so a write that
	// changes other fields need not refuse it.
	Size bool

	text string
}

// Error names the field, the mistake and the remedy.
func (p *Problem) Error() string { return p.text }

// Problems are all that is refused of one thing, in the order of its fields.
type Problems []*Problem

// Err returns them as one error, a line each, or nil where there are none.
func (p Problems) Err() error {
	all := make([]error, 0, len(p))
	for _, problem := range p {
		all = append(all, problem)
	}
	return errors.Join(all...)
}

func (p *Problems) add(field, format string, args ...any) {
	*p = append(*p, &Problem{Field: field, text: fmt.Sprintf(format, args...)})
}

// bound adds that there is more of the field than is taken.
func (p *Problems) bound(field, format string, args ...any) {
	p.add(field, "field "+field+": "+format, args...)
	(*p)[len(*p)-1].Size = true
}

// wrap adds the mistake in a value of the field.
func (p *Problems) wrap(field string, err error) {
	if err != nil {
		p.add(field, "field %s: %s", field, err)
	}
}
