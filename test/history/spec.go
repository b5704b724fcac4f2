package history

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

// ends are the tokens that a request ends.
type ends int

const (
	endsNone ends = iota
	endsOne       // that of the request
	endsOwn       // all of the client but those that are leased
	endsAll
)

// request is one request about one client's tokens.
type request struct {
	client string
	what   string // its path, without secrets
	looks  bool   // it asks whether the token is active
	token  string // the id of the token that it asks about, begins or ends
	begins bool   // it begins the token
	ends   ends
}

// answer is the answer to a request.
type answer struct {
	lost   bool // it is not known whether the request was done
	active bool // of one that looks
}

// alive are the ids of a client's active tokens, each between spaces, in order. Those that
// are leased begin with [leased].
type alive string

const leased = "lease:"

// specification is a token's life: it is active from the request that begins it to one that
// ends it, and each lookup says so.
var specification = porcupine.Model{
	Init: func() any { return alive(" ") },
	Step: func(state, input, output any) (bool, any) {
		now, r, a := state.(alive), input.(request), output.(answer)
		right := !r.looks || a.active == now.has(r.token)
		return right, now.without(r).with(r)
	},
	Partition: byClient,
	DescribeOperation: func(input, output any) string {
		r, a := input.(request), output.(answer)
		switch {
		case a.lost:
			return r.what + " " + r.token + ": no answer"
		case r.looks:
			return fmt.Sprintf("%s %s: active %t", r.what, r.token, a.active)
		}
		return r.what + " " + r.token + ": done"
	},
	DescribeState: func(state any) string { return "active:" + string(state.(alive)) },
}

func (s alive) has(token string) bool { return strings.Contains(string(s), " "+token+" ") }

// without are the tokens that the request leaves.
func (s alive) without(r request) alive {
	return s.only(func(token string) bool {
		switch r.ends {
		case endsOne:
			return token != r.token
		case endsOwn:
			return strings.HasPrefix(token, leased)
		case endsAll:
			return false
		default:
			return true
		}
	})
}

// with are these tokens, and the one that the request begins.
func (s alive) with(r request) alive {
	if !r.begins || s.has(r.token) {
		return s
	}
	tokens := append(strings.Fields(string(s)), r.token)
	slices.Sort(tokens)
	return alive(" " + strings.Join(tokens, " ") + " ")
}

// only are the tokens that keep is true for.
func (s alive) only(keep func(token string) bool) alive {
	left := " "
	for token := range strings.FieldsSeq(string(s)) {
		if keep(token) {
			left += token + " "
		}
	}
	return alive(left)
}

// byClient splits a history: requests about one client do not concern the tokens of
// others.
func byClient(history []porcupine.Operation) [][]porcupine.Operation {
	of := map[string][]porcupine.Operation{}
	for _, op := range history {
		client := op.Input.(request).client
		of[client] = append(of[client], op)
	}
	var parts [][]porcupine.Operation
	for _, client := range slices.Sorted(maps.Keys(of)) {
		parts = append(parts, of[client])
	}
	return parts
}

// never is after every answer.
const never = math.MaxInt64

// check judges a history. The error has the requests of the first client whose answers
// cannot all be right.
func check(history []porcupine.Operation, within time.Duration) error {
	judge := specification
	judge.Partition = nil
	end := time.Now().Add(within)
	for _, part := range byClient(history) {
		switch porcupine.CheckOperationsTimeout(judge, part, max(time.Until(end), time.Second)) {
		case porcupine.Ok:
		case porcupine.Unknown:
			return fmt.Errorf("the %d requests about %s could not be judged within %s", len(part), part[0].Input.(request).client, within)
		default:
			return fmt.Errorf("there is no order of the requests about %s in which every answer is right:\n%s",
				part[0].Input.(request).client, describe(part))
		}
	}
	return nil
}

// describe lists requests in the order of their sending.
func describe(part []porcupine.Operation) string {
	slices.SortFunc(part, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
	var text strings.Builder
	for _, op := range part {
		answered := "never"
		if op.Return != never {
			answered = time.Duration(op.Return).Round(time.Microsecond).String()
		}
		fmt.Fprintf(&text, "  %12s to %12s  by %d  %s\n", time.Duration(op.Call).Round(time.Microsecond), answered, op.ClientId,
			specification.DescribeOperation(op.Input, op.Output))
	}
	return text.String()
}
