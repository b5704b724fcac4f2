package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

var errSameAddress = errors.New("it is the listener's address too: health and metrics need one of their own")

// decoder collects all mistakes, to report them at once.
type decoder struct {
	problems hcl.Diagnostics
	offered  []setting
}

// setting is a setting of a block, with its default as it is written in a file; "" if
// there is none.
type setting struct{ block, name, fallback string }

// problem notes one, with the place to point to.
func (d *decoder) problem(at hcl.Range, format string, args ...any) {
	d.problems = append(d.problems, &hcl.Diagnostic{Severity: hcl.DiagError, Summary: fmt.Sprintf(format, args...), Subject: &at})
}

// section is one block. The caller asks for each setting by name, with its default. end
// reports settings that the caller did not ask for as unknown.
type section struct {
	*decoder
	name     string
	body     *hclsyntax.Body
	settings []string // asked for
	blocks   []string // asked for
}

func (d *decoder) section(body *hclsyntax.Body, name string) *section {
	return &section{decoder: d, name: name, body: body}
}

// end reports everything that the caller did not ask for.
func (s *section) end() {
	for name, attribute := range s.body.Attributes {
		switch {
		case slices.Contains(s.settings, name):
		case slices.Contains(s.blocks, name):
			s.problem(attribute.NameRange, "%s is a block, not a setting: write %s { … } without \"=\"", name, name)
		default:
			s.problem(attribute.NameRange, "%s has no setting %q; %s", s.name, name, s.offers())
		}
	}
	for _, block := range s.body.Blocks {
		switch {
		case slices.Contains(s.blocks, block.Type):
		case slices.Contains(s.settings, block.Type):
			s.problem(block.TypeRange, "%s is a setting, not a block: write %s = …", block.Type, block.Type)
		default:
			s.problem(block.TypeRange, "%s has no block %q; %s", s.name, block.Type, s.offers())
		}
	}
}

// offers lists the settings and blocks that exist.
func (s *section) offers() string {
	var parts []string
	if len(s.settings) > 0 {
		parts = append(parts, "its settings are "+strings.Join(s.settings, ", "))
	}
	if len(s.blocks) > 0 {
		parts = append(parts, "its blocks are "+strings.Join(s.blocks, ", "))
	}
	return strings.Join(parts, "; ")
}

// block returns the block of that type, or nil.
func (s *section) block(kind string) *section {
	var found *section
	s.blocks = append(s.blocks, kind)
	for _, block := range s.body.Blocks {
		switch {
		case block.Type != kind:
			continue
		case len(block.Labels) > 0:
			s.problem(block.LabelRanges[0], "block %s takes no name", kind)
		case found != nil:
			s.problem(block.TypeRange, "there is a second block %s: put both into one", kind)
		}
		found = s.section(block.Body, kind)
	}
	return found
}

// blockOrEmpty is block for one that may be left out.
func (s *section) blockOrEmpty(kind string) *section {
	if found := s.block(kind); found != nil {
		return found
	}
	return s.section(&hclsyntax.Body{SrcRange: s.body.SrcRange, EndRange: s.body.EndRange}, kind)
}

// labelled returns the blocks of that type; each has one label.
func (s *section) labelled(kind string) []*hclsyntax.Block {
	var found []*hclsyntax.Block
	s.blocks = append(s.blocks, kind)
	for _, block := range s.body.Blocks {
		if block.Type != kind {
			continue
		}
		if len(block.Labels) != 1 || block.Labels[0] == "" {
			s.problem(block.TypeRange, "block %s needs one name: %s \"NAME\" { … }", kind, kind)
			continue
		}
		found = append(found, block)
	}
	return found
}

// ask notes that there is a setting of that name.
func (s *section) ask(name string, fallback any) {
	s.settings = append(s.settings, name)
	s.offered = append(s.offered, setting{s.name, name, written(fallback)})
}

// written is a value as it is written in a file, without quotes.
func written(value any) string {
	if d, ok := value.(time.Duration); ok {
		text := d.String()
		if short, ok := strings.CutSuffix(text, "m0s"); ok {
			text = short + "m"
		}
		if short, ok := strings.CutSuffix(text, "h0m"); ok {
			text = short + "h"
		}
		return text
	}
	return fmt.Sprint(value)
}

// writtenList is a list as it is written in a file; "" if it is empty.
func writtenList(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return `["` + strings.Join(list, `", "`) + `"]`
}

func (s *section) has(name string) bool { _, ok := s.body.Attributes[name]; return ok }

// bad notes that a setting's value is wrong.
func (s *section) bad(name, format string, args ...any) {
	at := s.body.MissingItemRange()
	if attribute, ok := s.body.Attributes[name]; ok {
		at = attribute.Expr.Range()
	}
	s.problem(at, "%s: %s: %s", s.name, name, fmt.Sprintf(format, args...))
}

// required notes that a setting is missing.
func (s *section) required(name, value string) {
	if value == "" && !s.has(name) {
		s.problem(s.body.MissingItemRange(), "%s: %s is required", s.name, name)
	}
}
