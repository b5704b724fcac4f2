package kms

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Policy is an identity's IAM policy. It understands the parts of IAM's language that
// policies for KMS use: Effect, Action, Resource, and conditions on the encryption
// context. Any other part is an error, never ignored.
type Policy struct {
	statements []statement
}

type statement struct {
	deny       bool
	actions    []string
	resources  []string
	conditions []condition
}

type condition struct {
	operator string
	key      string
	values   []string
}

const (
	contextValue = "kms:EncryptionContext:"
	contextKeys  = "kms:EncryptionContextKeys"
)

// ParsePolicy reads a policy in IAM's JSON.
func ParsePolicy(document []byte) (*Policy, error) {
	var raw struct {
		Version   string
		Statement []struct {
			Sid       string
			Effect    string
			Action    texts
			Resource  texts
			Condition map[string]map[string]texts
		}
	}
	decoder := json.NewDecoder(strings.NewReader(string(document)))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&raw); err != nil {
		return nil, fmt.Errorf("the policy is not one that this double understands: %w", err)
	}
	p := &Policy{}
	for i, s := range raw.Statement {
		if s.Effect != "Allow" && s.Effect != "Deny" || len(s.Action) == 0 || len(s.Resource) == 0 {
			return nil, fmt.Errorf("statement %d: it needs an Effect, an Action and a Resource", i)
		}
		parsed := statement{deny: s.Effect == "Deny", actions: s.Action, resources: s.Resource}
		for operator, keys := range s.Condition {
			for key, values := range keys {
				c := condition{operator: operator, key: key, values: values}
				if err := c.check(); err != nil {
					return nil, fmt.Errorf("statement %d: %w", i, err)
				}
				parsed.conditions = append(parsed.conditions, c)
			}
		}
		p.statements = append(p.statements, parsed)
	}
	return p, nil
}

func (c *condition) check() error {
	if !strings.HasPrefix(c.key, contextValue) && c.key != contextKeys {
		return fmt.Errorf("condition key %q is not understood", c.key)
	}
	switch c.operator {
	case "StringEquals", "StringLike", "ForAllValues:StringEquals", "ForAnyValue:StringEquals":
		return nil
	}
	return fmt.Errorf("condition operator %q is not understood", c.operator)
}

// allows reports whether the policy allows an action; a nil policy allows all.
func (p *Policy) allows(action, resource string, context map[string]string) bool {
	if p == nil {
		return true
	}
	allowed := false
	for i := range p.statements {
		s := &p.statements[i]
		if !matchesAny(s.actions, action) || !matchesAny(s.resources, resource) || !s.holds(context) {
			continue
		}
		if s.deny {
			return false
		}
		allowed = true
	}
	return allowed
}

func (s *statement) holds(context map[string]string) bool {
	for _, c := range s.conditions {
		if !c.holds(context) {
			return false
		}
	}
	return true
}

// holds compares the request with the condition. A missing single value fails;
// ForAllValues holds if there are no values.
func (c *condition) holds(context map[string]string) bool {
	var have []string
	if name, ok := strings.CutPrefix(c.key, contextValue); !ok {
		have = slices.Sorted(maps.Keys(context))
	} else if value, ok := context[name]; ok {
		have = []string{value}
	}
	want := func(value string) bool {
		if c.operator == "StringLike" {
			return matchesAny(c.values, value)
		}
		return slices.Contains(c.values, value)
	}
	if c.operator == "ForAllValues:StringEquals" {
		return !slices.ContainsFunc(have, func(value string) bool { return !want(value) })
	}
	return slices.ContainsFunc(have, want)
}

// matchesAny compares with IAM's wildcard *.
func matchesAny(patterns []string, text string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool { return matches(pattern, text) })
}

func matches(pattern, text string) bool {
	head, tail, wild := strings.Cut(pattern, "*")
	if !wild {
		return pattern == text
	}
	if !strings.HasPrefix(text, head) {
		return false
	}
	for i := len(head); i <= len(text); i++ {
		if matches(tail, text[i:]) {
			return true
		}
	}
	return false
}

// texts is a list of texts, which IAM may write as a single text.
type texts []string

// UnmarshalJSON takes both forms.
func (t *texts) UnmarshalJSON(data []byte) error {
	var one string
	if json.Unmarshal(data, &one) == nil {
		*t = texts{one}
		return nil
	}
	return json.Unmarshal(data, (*[]string)(t))
}
