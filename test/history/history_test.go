package history

import (
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// step is one request of a history, with its result: "done", "lost", "active" or
// "ended". One that is sent later than an earlier one returns has then is true.
type step struct {
	path   string
	data   map[string]any
	remove bool
	came   string
}

type object = map[string]any

// write has the requests one after the other; those in a group are under way together, and
// are answered in their order.
func write(groups ...[]step) *Book {
	b := &Book{}
	for _, group := range groups {
		var asked []*Asked
		for i, s := range group {
			asked = append(asked, b.Ask(i, s.path, s.data, s.remove))
		}
		for i, s := range group {
			switch s.came {
			case "lost":
				asked[i].Lost()
			case "active", "ended":
				asked[i].Done(object{"active": s.came == "active"})
			default:
				asked[i].Done(object{"token": s.came, "accessor": "accessor-" + s.came, "lease": "lease-" + s.came})
			}
		}
	}
	return b
}

func one(s step) []step { return []step{s} }

func create(token string) step { return step{path: "clients/c", came: token} }

func look(token, came string) step {
	return step{path: "lookup", data: object{"token": token}, came: came}
}

func revoke(token, came string) step {
	return step{path: "revoke", data: object{"token": token}, came: came}
}

func rotate(token string) step {
	return step{path: "rotate-client/c", data: object{"grace_period": 0}, came: token}
}

func TestAHistoryIsJudged(t *testing.T) {
	bring := step{path: "clients/c", data: object{"access_token": "own"}, came: "lost"}
	for name, test := range map[string]struct {
		right bool
		book  *Book
	}{
		"a token is active until it is revoked":                     {true, write(one(create("t")), one(look("t", "active")), one(revoke("t", "x")), one(look("t", "ended")))},
		"a revoked token is active again":                           {false, write(one(create("t")), one(revoke("t", "x")), one(look("t", "active")))},
		"a token that nobody has ended is not active":               {false, write(one(create("t")), one(look("t", "ended")))},
		"a rotation leaves one token":                               {true, write(one(create("t")), one(rotate("u")), one(look("t", "ended")), one(look("u", "active")))},
		"a rotation leaves the token before it":                     {false, write(one(create("t")), one(rotate("u")), one(look("t", "active")))},
		"a rotation with grace ends nothing":                        {false, write(one(create("t")), one(step{path: "rotate-client/c", came: "u"}), one(look("t", "ended")))},
		"a rotation leaves leases":                                  {true, write(one(create("t")), one(step{path: "creds/c", came: "l"}), one(rotate("u")), one(look("l", "active")))},
		"the end of a lease ends its token":                         {false, write(one(step{path: "creds/c", came: "l"}), one(step{path: "sys/leases/revoke", data: object{"lease_id": "lease-l"}, came: "x"}), one(look("l", "active")))},
		"a client's end ends leases":                                {false, write(one(step{path: "creds/c", came: "l"}), one(step{path: "revoke-client/c", came: "x"}), one(look("l", "active")))},
		"a deleted client's token is active":                        {false, write(one(create("t")), one(step{path: "clients/c", remove: true, came: "x"}), one(look("t", "active")))},
		"a token ends by its accessor":                              {false, write(one(create("t")), one(step{path: "revoke-accessor", data: object{"accessor": "accessor-t"}, came: "x"}), one(look("t", "active")))},
		"a token ends by its path":                                  {false, write(one(create("t")), one(step{path: "clients/c/tokens/accessor-t", remove: true, came: "x"}), one(look("t", "active")))},
		"a revocation without an answer may be done":                {true, write(one(create("t")), one(revoke("t", "lost")), one(look("t", "ended")))},
		"a revocation without an answer may not be done":            {true, write(one(create("t")), one(revoke("t", "lost")), one(look("t", "active")))},
		"a revocation without an answer may be done later":          {true, write(one(create("t")), one(revoke("t", "lost")), one(look("t", "active")), one(look("t", "ended")))},
		"a revocation without an answer is undone":                  {false, write(one(create("t")), one(revoke("t", "lost")), one(look("t", "ended")), one(look("t", "active")))},
		"an own token without an answer may be there":               {true, write(one(bring), one(look("own", "ended")), one(look("own", "active")))},
		"an own token without an answer does not come twice":        {false, write(one(bring), one(look("own", "active")), one(look("own", "ended")))},
		"who looks during a revocation may see both":                {true, write(one(create("t")), []step{revoke("t", "x"), look("t", "active"), look("t", "ended")}, one(look("t", "ended")))},
		"who looks after one that saw the end sees it":              {false, write(one(create("t")), one(revoke("t", "lost")), []step{look("t", "ended")}, []step{look("t", "active"), look("t", "ended")})},
		"one of two rotations at once is the last":                  {true, write(one(create("t")), []step{rotate("u"), rotate("v")}, one(look("u", "active")), one(look("v", "ended")))},
		"of two rotations at once, both tokens are active":          {false, write(one(create("t")), []step{rotate("u"), rotate("v")}, one(look("u", "active")), one(look("v", "active")))},
		"what happens to one client concerns no other":              {true, write(one(create("t")), one(step{path: "revoke-client/other", came: "x"}), one(look("t", "active")))},
		"a leader that was deposed answers what was true before it": {false, write(one(create("t")), one(step{path: "revoke-client/c", came: "x"}), one(look("t", "ended")), one(look("t", "active")))},
	} {
		t.Run(name, func(t *testing.T) {
			if err := test.book.Check(); test.right {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, "there is no order of the requests about c")
				require.NotContains(t, err.Error(), "accessor-", "names of tokens are not printed")
			}
		})
	}
}

func TestWhatABookDoesNotKnowIsNotJudged(t *testing.T) {
	b := write(one(look("never-heard-of", "active")), one(revoke("neither", "x")), one(step{path: "servers/s", came: "x"}), one(look("t", "lost")))
	require.Zero(t, b.Len())
	require.NoError(t, b.Check())
}

func TestAGatewaysAnswersAreJudged(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	at := func(seconds float64) time.Time { return start.Add(time.Duration(seconds * float64(time.Second))) }
	got := func(sent float64, status int) Answer {
		a := Answer{Sent: at(sent), Came: at(sent + 0.01), Status: status}
		if status == 503 {
			a.RetryAfter = "1"
		}
		return a
	}
	deaf := Promise{Deaf: []Span{{at(10), at(20)}}}
	shaky := Promise{Shaky: []Span{{at(10), at(12)}}}
	for name, test := range map[string]struct {
		promise Promise
		ended   float64 // when the token's end is asked for; it is answered 0.1 s later
		answers []Answer
		wrong   string // part of the error; "": none
	}{
		"a good token passes":                                  {answers: []Answer{got(1, 200), got(2, 200)}},
		"a good token is refused":                              {answers: []Answer{got(1, 401)}, wrong: "it is refused, and is good"},
		"a token is refused before its end is asked for":       {ended: 5, answers: []Answer{got(4, 401)}, wrong: "it is refused, and is good"},
		"a token is refused while its end is under way":        {ended: 5, answers: []Answer{got(5.05, 401)}},
		"a token passes within the bound of its end":           {ended: 5, answers: []Answer{got(6, 200), got(6.2, 401)}},
		"a token passes after the bound of its end":            {ended: 5, answers: []Answer{got(6.2, 200)}, wrong: "later than it may"},
		"a deaf gateway lets an ended token pass":              {promise: deaf, ended: 11, answers: []Answer{got(13.9, 200), got(14.5, 503), got(19, 503), got(21, 401)}},
		"a deaf gateway lets it pass for too long":             {promise: deaf, ended: 11, answers: []Answer{got(15.2, 200)}, wrong: "later than it may"},
		"a deaf gateway lets a good one pass for too long":     {promise: deaf, answers: []Answer{got(14.1, 200)}, wrong: "longer than max_stale"},
		"a good one waits until the gateway hears again":       {promise: deaf, answers: []Answer{{Sent: at(19.9), Came: at(20.1), Status: 200}}},
		"a deaf gateway says no to a good one":                 {promise: deaf, answers: []Answer{got(14.1, 401)}, wrong: "it is refused, and is good"},
		"a deaf gateway gives a good one up too soon":          {promise: deaf, answers: []Answer{got(1, 200), got(12.5, 503)}, wrong: "503"},
		"it does not know the token":                           {promise: deaf, answers: []Answer{got(12.5, 503)}},
		"it hears again, and lets an ended one pass":           {promise: deaf, ended: 19.5, answers: []Answer{got(22.9, 200)}, wrong: ""},
		"it hears again, and lets it pass for too long":        {promise: deaf, ended: 19.5, answers: []Answer{got(23.1, 200)}, wrong: "later than it may"},
		"it hears again, and refuses good ones":                {promise: deaf, answers: []Answer{got(1, 200), got(21.9, 503), got(22.1, 503)}, wrong: "answer 3"},
		"while a leader is elected, an ended one passes":       {promise: shaky, ended: 10.5, answers: []Answer{got(14.4, 200), got(14.7, 200)}, wrong: "answer 2"},
		"while a leader is elected, a good one passes":         {promise: shaky, answers: []Answer{got(9, 200), got(11, 200), got(13, 200)}},
		"while a leader is elected, a known one fails":         {promise: shaky, answers: []Answer{got(9, 200), got(11, 503)}, wrong: "503"},
		"503 without Retry-After":                              {promise: deaf, answers: []Answer{{Sent: at(15), Came: at(15), Status: 503}}, wrong: "no Retry-After"},
		"another answer":                                       {answers: []Answer{got(1, 500)}, wrong: "it is answered 500"},
		"no answer":                                            {answers: []Answer{{Sent: at(1), Came: at(1), Err: io.EOF}}, wrong: "no answer in 0s: EOF"},
		"a request in flight is cut where max_stale ends":      {promise: deaf, answers: []Answer{{Sent: at(13.9), Came: at(14), Err: io.EOF}}},
		"a request is cut for no reason":                       {promise: deaf, answers: []Answer{{Sent: at(9), Came: at(9), Err: io.EOF}}, wrong: "no answer"},
		"a request in flight is cut where access is lost":      {ended: 5, answers: []Answer{got(5, 0)}},
		"a known one is given up while the gateway is at ease": {answers: []Answer{got(1, 200), got(2, 503)}, wrong: "503"},
	} {
		t.Run(name, func(t *testing.T) {
			p := test.promise
			p.Bound, p.MaxStale, p.Wait, p.Back = time.Second, 4*time.Second, time.Second, 2*time.Second
			r := &Reading{Token: "one", Answers: test.answers}
			if test.ended > 0 {
				r.EndAsked, r.EndAnswered = at(test.ended), at(test.ended+0.1)
			}
			if err := p.Judge(r); test.wrong == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, test.wrong)
			}
		})
	}
}
