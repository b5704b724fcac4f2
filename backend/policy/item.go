package policy

import (
	"fmt"
	"slices"
	"strings"
)

// decisions and checks about items.
var (
	notAllowedDecisions  = map[Item]string{Tool: ToolNotAllowed, Prompt: PromptNotAllowed, Resource: ResourceNotAllowed}
	notApprovedDecisions = map[Item]string{Tool: ToolNotApproved, Prompt: PromptNotApproved, Resource: ResourceNotApproved}
	itemChecks           = map[Item]string{Tool: CheckToolRules, Prompt: CheckPromptRules, Resource: CheckResourceRules}
)

// DecideItem decides whether the rules of a client let it use an item of a server that it
// reaches: a tool or a prompt by its name, a resource by its URI. It decides like the
// filters of [CompileRules], and gives the reason.
func DecideItem(client string, rights []Rights, server string, item Item, name string) Decision {
	q := itemQuestion{client: client, server: server, item: item, name: name, compared: name}
	if !AllowsServer(rights, server) {
		return q.block(whyNotAdmitted(client, rights, server))
	}
	denied, free := q.denials(rights), unset(rights, server, item)
	if free >= 0 && len(denied) == 0 && !anyList(rights, item) {
		return q.pass(itemRule{}, fmt.Sprintf("%s is allowed: no rule is about %ss of the server", q.subject(), item))
	}
	texts := []string{name}
	if item == Resource && (free < 0 || len(denied) > 0) {
		canonical, err := CanonicalURI(name)
		if err != nil {
			return q.block(fmt.Sprintf("%s is refused, since rules are about the server's resources: %s", q.subject(), err))
		}
		all := readings(canonical)
		q.compared, texts = canonical, all[:]
	}
	for _, r := range denied {
		if r.denies(item, texts) {
			return q.deny(r)
		}
	}
	if free >= 0 {
		list := itemRule{field: "allowed_" + string(item) + "s", source: &rights[free]}
		return q.pass(itemRule{}, fmt.Sprintf("%s is allowed: no rule denies it, and %s is unset", q.subject(), list.place(client)))
	}
	return q.allow(rights)
}

// unset returns the place of the first source that admits the server and leaves its list of
// allowed items unset, -1 if there is none.
func unset(rights []Rights, server string, item Item) int {
	return slices.IndexFunc(rights, func(r Rights) bool {
		allowed, _ := r.of(item)
		return allowed == nil && r.admits(server)
	})
}

// anyList reports whether a source has a list about that kind of item.
func anyList(rights []Rights, item Item) bool {
	return slices.ContainsFunc(rights, func(r Rights) bool {
		allowed, denied := r.of(item)
		return allowed != nil || len(denied) > 0
	})
}

// itemRule is a rule with where it stands.
type itemRule struct {
	text, pattern string
	field         string
	source        *Rights
	err           error // it is not a valid rule
}

// place names the list that the rule stands in.
func (r *itemRule) place(client string) string {
	if r.source.Role != "" {
		return fmt.Sprintf("%s of role %s", r.field, r.source.Role)
	}
	return fmt.Sprintf("%s of client %s", r.field, client)
}

// denies reports whether the rule matches one of the readings of an item.
func (r *itemRule) denies(item Item, texts []string) bool {
	g := compileDenial(item, r.pattern)
	return r.err != nil || slices.ContainsFunc(texts, g.match)
}

// itemQuestion is whether a client may use an item.
type itemQuestion struct {
	client, server string
	item           Item
	name           string
	compared       string // the name, or the URI in canonical form
}

// denials returns the rules that could deny an item of the server.
func (q *itemQuestion) denials(rights []Rights) []itemRule {
	var found []itemRule
	for i := range rights {
		_, rules := rights[i].of(q.item)
		for _, rule := range rules {
			pattern, concerns, err := concerning(q.item, rule, q.server)
			if concerns || err != nil {
				found = append(found, itemRule{rule, pattern, "denied_" + string(q.item) + "s", &rights[i], err})
			}
		}
	}
	return found
}

// allow makes the last check, the one of the lists of allowed items.
func (q *itemQuestion) allow(rights []Rights) Decision {
	var places []string
	for i := range rights {
		if !rights[i].admits(q.server) {
			continue
		}
		rules, _ := rights[i].of(q.item)
		list := itemRule{field: "allowed_" + string(q.item) + "s", source: &rights[i]}
		for _, rule := range rules {
			pattern, concerns, err := concerning(q.item, rule, q.server)
			if g := compileGlob(pattern); err == nil && concerns && g.match(q.compared) {
				list.text = rule
				return q.pass(list, fmt.Sprintf("%s is allowed: the rule %q in %s matches", q.subject(), rule, list.place(q.client)))
			}
		}
		places = append(places, list.place(q.client))
	}
	return q.block(fmt.Sprintf("%s is not allowed: no rule in %s matches. Add %q to allow it",
		q.subject(), strings.Join(places, " or in "), q.server+"/"+q.compared))
}

// subject names the item, for an explanation.
func (q *itemQuestion) subject() string {
	text := fmt.Sprintf("%s %q of server %q", q.item, q.name, q.server)
	if q.compared != q.name {
		text += fmt.Sprintf(", compared as %q,", q.compared)
	}
	return text
}

func (q *itemQuestion) deny(r itemRule) Decision {
	reason := fmt.Sprintf("%s is denied: the rule %q in %s matches. Nothing overrides a denial: take the rule out, or narrow it",
		q.subject(), r.text, r.place(q.client))
	if r.err != nil {
		reason = fmt.Sprintf("%s is denied, as everything is, since %s has a rule that is not valid: %s", q.subject(), r.place(q.client), r.err)
	}
	d := q.block(reason)
	d.Entry, d.Source = r.text, r.place(q.client)
	return d
}

func (q *itemQuestion) block(reason string) Decision {
	return Decision{
		Decision: notAllowedDecisions[q.item], Reason: reason,
		Checks: []Check{{itemChecks[q.item], Blocked, reason}},
	}
}

func (q *itemQuestion) pass(r itemRule, reason string) Decision {
	d := Decision{
		Allowed: true, Decision: Allowed, Reason: reason,
		Checks: []Check{{itemChecks[q.item], Passed, reason}},
	}
	if r.source != nil {
		d.Entry, d.Source = r.text, r.place(q.client)
	}
	return d
}

// Then is the decision about a server, d, followed by the one about an item of it, which is
// made only if d allows the server.
func (d Decision) Then(item Item, decide func() Decision) Decision {
	if !d.Allowed {
		d.Checks = skipRest(slices.Clone(d.Checks), itemChecks[item])
		return d
	}
	next := decide()
	next.Checks = slices.Concat(d.Checks, next.Checks)
	return next
}

// WithPins is the decision about an item, d, followed by that of the server's pins: whether they
// block it, and why. It is made only if d allows the item.
func (d Decision) WithPins(item Item, blocks bool, detail string) Decision {
	d.Checks = slices.Clone(d.Checks)
	switch {
	case !d.Allowed:
		d.Checks = skipRest(d.Checks, CheckPins)
	case blocks:
		return Decision{
			Decision: notApprovedDecisions[item], Reason: detail,
			Checks: append(d.Checks, Check{CheckPins, Blocked, detail}),
		}
	default:
		d.Checks = append(d.Checks, Check{CheckPins, Passed, detail})
	}
	return d
}
