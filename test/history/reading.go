package history

import (
	"fmt"
	"net/http"
	"slices"
	"time"
)

// Reading has a gateway's answers to one token, which was valid before the first
// answer.
type Reading struct {
	// Token names it in errors, without a secret.
	Token string
	// EndAsked and EndAnswered are when its end was asked for, and answered. Zero: never.
	EndAsked, EndAnswered time.Time
	Answers               []Answer
}

// Answer is one of a gateway's.
type Answer struct {
	Sent, Came time.Time
	Status     int   // 0: none
	Err        error // why there is none
	RetryAfter string
}

// Span is a time in which something did not answer.
type Span struct{ From, To time.Time }

// Promise is the guarantee of docs/reliability.md about a gateway's answers.
type Promise struct {
	// Bound is how soon a revocation takes effect while the gateway hears of it.
	Bound time.Duration
	// MaxStale is how long it answers from memory, and Wait how long ago it may have heard
	// of Vault last.
	MaxStale, Wait time.Duration
	// Back is how soon it hears of Vault once it can.
	Back time.Duration
	// Deaf are the times in which it certainly heard nothing of Vault.
	Deaf []Span
	// Shaky are those in which it may have heard nothing, as while Vault elects a leader.
	Shaky []Span
	// Slack is added to every time.
	Slack time.Duration
}

// Judge compares a reading with the promise. Nil: the gateway has kept it.
func (p *Promise) Judge(r *Reading) error {
	latest := p.latest(r)
	for i, a := range r.Answers {
		if err := p.answer(r, &a, latest); err != nil {
			return fmt.Errorf("%s, answer %d, sent %s: %w", r.Token, i+1, a.Sent.Format(time.StampMilli), err)
		}
	}
	return nil
}

// answer judges one answer.
func (p *Promise) answer(r *Reading, a *Answer, latest time.Time) error {
	ended := !r.EndAsked.IsZero() && !a.Came.Before(r.EndAsked)
	switch a.Status {
	case http.StatusOK:
		switch {
		case !r.EndAnswered.IsZero() && a.Sent.After(latest):
			return fmt.Errorf("it passed %s after its end was answered, %s later than it may", a.Sent.Sub(r.EndAnswered), a.Sent.Sub(latest))
		case p.mute(a):
			return fmt.Errorf("it passed though the gateway had heard nothing of Vault for longer than max_stale, %s", p.MaxStale)
		}
	case http.StatusUnauthorized:
		if !ended {
			return fmt.Errorf("it is refused, and is good")
		}
	case http.StatusServiceUnavailable:
		switch {
		case a.RetryAfter == "":
			return fmt.Errorf("503 has no Retry-After")
		case !ended && r.known(a) && !p.mayBeAway(a):
			return fmt.Errorf("503 after %s, though the gateway hears of Vault, or has heard of it lately", a.Came.Sub(a.Sent))
		}
	case 0: // a request in flight is cut when the gateway's last word from Vault is too old
		if !ended && !p.mayBeAway(a) {
			return fmt.Errorf("it got no answer in %s: %w", a.Came.Sub(a.Sent), a.Err)
		}
	default:
		return fmt.Errorf("it is answered %d", a.Status)
	}
	return nil
}

// latest is when the last request may be sent with which a token passes that has ended.
func (p *Promise) latest(r *Reading) time.Time {
	latest := r.EndAnswered.Add(p.Bound + p.Slack)
	for _, s := range p.away() {
		if back := s.To.Add(p.Back + p.Bound + p.Slack); !s.From.After(latest) && latest.Before(back) {
			latest = back
		}
	}
	if stale := r.EndAnswered.Add(p.MaxStale + p.Slack); latest.After(stale) {
		latest = stale
	}
	return latest
}

// mute tells whether the gateway must not have answered from memory any more. A request that
// waits when the gateway hears of Vault again may be answered by Vault.
func (p *Promise) mute(a *Answer) bool {
	return slices.ContainsFunc(p.Deaf, func(s Span) bool {
		return a.Sent.After(s.From.Add(p.MaxStale+p.Slack)) && a.Came.Before(s.To)
	})
}

// known tells whether the gateway had confirmed the token before the answer.
func (r *Reading) known(a *Answer) bool {
	return slices.ContainsFunc(r.Answers, func(other Answer) bool {
		return other.Status == http.StatusOK && other.Came.Before(a.Sent)
	})
}

// mayBeAway reports whether a known token may be answered with 503: the gateway's last word
// from Vault may have been too old during the request.
func (p *Promise) mayBeAway(a *Answer) bool {
	return slices.ContainsFunc(p.away(), func(s Span) bool {
		old := s.From.Add(p.MaxStale - p.Wait - p.Slack)
		return a.Came.After(old) && a.Sent.Before(s.To.Add(p.Back+p.Slack)) && s.To.After(old)
	})
}

// away are the times in which the gateway heard nothing, or may have heard nothing. Those
// that touch are one.
func (p *Promise) away() []Span {
	all := slices.Concat(p.Deaf, p.Shaky)
	slices.SortFunc(all, func(a, b Span) int { return a.From.Compare(b.From) })
	var joined []Span
	for _, s := range all {
		if n := len(joined); n > 0 && !s.From.After(joined[n-1].To.Add(p.Back)) {
			if s.To.After(joined[n-1].To) {
				joined[n-1].To = s.To
			}
			continue
		}
		joined = append(joined, s)
	}
	return joined
}
