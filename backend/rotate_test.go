package backend

import (
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

func (e *env) rotate(name string, d data) string {
	e.t.Helper()
	token, _ := e.write("rotate-client/"+name, d).Data["token"].(string)
	require.NotEmpty(e.t, token)
	return token
}

func TestARotatedTokenAndItsPredecessorBothWorkWithinTheGracePeriod(t *testing.T) {
	e := newEnv(t)
	first := e.client("c", data{})
	resp := e.write("rotate-client/c", data{"grace_period": "10m"})
	second := resp.Data["token"].(string)
	require.NotEqual(t, first, second)
	require.Len(t, resp.Data["predecessors"], 1)

	require.True(t, e.active(first))
	require.True(t, e.active(second))
	require.EqualValues(t, 600, e.lookup(first)["ttl"])

	e.clock.Advance(10*time.Minute - time.Nanosecond)
	require.True(t, e.active(first), "a predecessor ended before its time")
	e.clock.Advance(time.Nanosecond)
	require.False(t, e.active(first), "a predecessor outlived its grace period")
	require.True(t, e.active(second))
}

func TestTheMountsGracePeriodIsTheDefault(t *testing.T) {
	e := newEnv(t)
	e.write("config", data{"grace_period": "5m"})
	first := e.client("c", data{})
	e.rotate("c", nil)
	require.EqualValues(t, 300, e.lookup(first)["ttl"])
}

func TestEachPredecessorKeepsItsOwnEnd(t *testing.T) {
	e := newEnv(t)
	first := e.client("c", data{})
	second := e.rotate("c", data{"grace_period": "1h"})
	e.clock.Advance(30 * time.Minute)
	third := e.rotate("c", data{"grace_period": "1h"})

	e.clock.Advance(31 * time.Minute)
	require.False(t, e.active(first))
	require.True(t, e.active(second))
	e.clock.Advance(30 * time.Minute)
	require.False(t, e.active(second))
	require.True(t, e.active(third))
}

func TestAGracePeriodNeverLengthensAToken(t *testing.T) {
	e := newEnv(t)
	first := e.client("c", data{"token_ttl": "10m"})
	e.rotate("c", data{"grace_period": "1h"})
	e.clock.Advance(10 * time.Minute)
	require.False(t, e.active(first))
}

func TestARotationWithoutGraceEndsEveryEarlierToken(t *testing.T) {
	e := newEnv(t)
	first := e.client("c", data{})
	second := e.rotate("c", data{"grace_period": "1h"})
	third := e.rotate("c", data{"grace_period": 0})
	require.False(t, e.active(first))
	require.False(t, e.active(second))
	require.True(t, e.active(third))
}

func TestARepeatedRotationReplacesTheTokenThatWasNeverReceived(t *testing.T) {
	e := newEnv(t)
	first := e.client("c", data{})
	lost := e.rotate("c", data{"grace_period": "1h", "rotation_id": "2026-11"})
	accessor := e.lookup(lost)["accessor"].(string)
	e.clock.Advance(rotationIDLife - time.Second)
	resp := e.write("rotate-client/c", data{"grace_period": "1h", "rotation_id": "2026-11"})
	received := resp.Data["token"].(string)
	require.Contains(t, strings.Join(resp.Warnings, "\n"), "with the accessor "+accessor+", has ended")

	require.False(t, e.active(lost), "a token that nobody received stayed alive")
	require.True(t, e.active(received))
	require.EqualValues(t, 3001, e.lookup(first)["ttl"], "a retry moved the old token's grace period")

	next := e.rotate("c", data{"grace_period": "1h", "rotation_id": "2026-12"})
	require.True(t, e.active(received), "another rotation is no retry")
	require.True(t, e.active(next))
}

func TestARotationWithoutAnIDIsNoRetryOfOneWithout(t *testing.T) {
	e := newEnv(t)
	e.client("c", data{})
	second := e.rotate("c", data{"grace_period": "1h"})
	e.rotate("c", data{"grace_period": "1h"})
	require.True(t, e.active(second))
}

// A job that runs every night may give the same id each time.
func TestARotationIDThatComesBackLaterIsANewRotation(t *testing.T) {
	for name, later := range map[string]time.Duration{"just after it has ceased to count": rotationIDLife, "a day later": 24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t)
			e.client("c", data{})
			working := e.rotate("c", data{"rotation_id": "nightly", "grace_period": "24h"})
			e.clock.Advance(later)
			resp := e.write("rotate-client/c", data{"rotation_id": "nightly", "grace_period": "24h"})
			require.True(t, e.active(working), "the working token ended at once")
			require.EqualValues(t, 24*3600, e.lookup(working)["ttl"])
			require.Contains(t, strings.Join(resp.Warnings, "\n"), "this is a new rotation")
			again := e.write("rotate-client/c", data{"rotation_id": "nightly", "grace_period": "24h"})
			require.False(t, e.active(resp.Data["token"].(string)), "this one was a retry")
			require.True(t, e.active(again.Data["token"].(string)))
			require.True(t, e.active(working))
		})
	}
}

func TestARotationWithGraceZeroEndsEveryEarlierTokenUnderARepeatedIDToo(t *testing.T) {
	e := newEnv(t)
	leaked := e.client("c", data{})
	lost := e.rotate("c", data{"rotation_id": "leak"})
	last := e.rotate("c", data{"rotation_id": "leak", "grace_period": 0})
	require.False(t, e.active(leaked), "the leaked token survived the rotation that was to end it")
	require.False(t, e.active(lost))
	require.True(t, e.active(last))

	// A grace_period of 0 of the mount does not end the grace of earlier rotations.
	e.write("config", data{"grace_period": 0})
	again := e.rotate("c", data{"rotation_id": "planned", "grace_period": "1h"})
	retried := e.rotate("c", data{"rotation_id": "planned"})
	require.True(t, e.active(last))
	require.False(t, e.active(again))
	require.True(t, e.active(retried))
}

func TestAClientHasAtMostEightTokens(t *testing.T) {
	e := newEnv(t)
	tokens := []string{e.client("c", data{})}
	for range maxClientTokens - 1 {
		e.clock.Advance(time.Second)
		tokens = append(tokens, e.rotate("c", data{"grace_period": "1h"}))
	}
	first := e.lookup(tokens[0])["accessor"].(string)
	for _, refused := range []struct {
		path string
		data data
	}{
		{"rotate-client/c", data{"grace_period": "1h"}},
		{"rotate-client/c", data{"grace_period": "1s"}},
		{"rotate-client/c", nil},
		{"clients/c", data{"access_token": "my_secret_token_123"}},
	} {
		message := e.refused(logical.UpdateOperation, refused.path, refused.data)
		require.Contains(t, message, "wait until 2026-11-22T10:00:01Z", "the refusal says when it works again")
		require.Contains(t, message, "accessor="+first)
	}
	for _, token := range tokens {
		require.True(t, e.active(token), "a refused rotation ended a token")
	}
	e.clock.Advance(time.Hour - 6*time.Second)
	tokens = append(tokens, e.rotate("c", data{"grace_period": "1h"}))
	second := e.lookup(tokens[1])["accessor"].(string)
	require.Contains(t, e.refused(logical.UpdateOperation, "rotate-client/c", data{"grace_period": "1h"}), "accessor="+second)
	e.write("revoke-accessor", data{"accessor": second})
	tokens = append(tokens, e.rotate("c", data{"grace_period": "1h"}))
	last := e.rotate("c", data{"grace_period": 0})
	for _, token := range tokens {
		require.False(t, e.active(token))
	}
	require.True(t, e.active(last))
}

func TestRotatingARevokedClientIssuesANewToken(t *testing.T) {
	e := newEnv(t)
	old := e.client("c", data{})
	e.write("revoke-client/c", nil)
	token := e.rotate("c", data{"rotation_id": "x"})
	require.True(t, e.active(token))
	require.False(t, e.active(old))
}

func TestARetryAfterARevocationIssuesANewToken(t *testing.T) {
	e := newEnv(t)
	e.client("c", data{})
	e.rotate("c", data{"rotation_id": "x"})
	e.write("revoke-all", nil)
	require.True(t, e.active(e.rotate("c", data{"rotation_id": "x"})))
}

func TestRotationRefusals(t *testing.T) {
	e := newEnv(t)
	e.client("c", data{})
	for name, tc := range map[string]struct {
		path    string
		data    data
		refusal string
	}{
		"an unknown client":         {"rotate-client/nobody", nil, `no client "nobody"`},
		"an unknown field":          {"rotate-client/c", data{"grace": "1h"}, `unknown field "grace"`},
		"a rotation_period":         {"rotate-client/c", data{"rotation_period": "1h"}, `unknown field "rotation_period"`},
		"a long rotation_id":        {"rotate-client/c", data{"rotation_id": strings.Repeat("x", 129)}, "field rotation_id"},
		"a short custom token":      {"rotate-client/c", data{"access_token": "short"}, "too short"},
		"a negative grace period":   {"rotate-client/c", data{"grace_period": -1}, "grace_period"},
		"a grace period of letters": {"rotate-client/c", data{"grace_period": "soon"}, "grace_period"},
	} {
		t.Run(name+" is refused", func(t *testing.T) {
			require.Contains(t, e.refused(logical.UpdateOperation, tc.path, tc.data), tc.refusal)
		})
	}
}

func TestACustomTokenRotatesIn(t *testing.T) {
	e := newEnv(t)
	first := e.client("c", data{})
	resp := e.write("rotate-client/c", data{"access_token": "my_secret_token_123", "grace_period": "1m"})
	require.Equal(t, "my_secret_token_123", resp.Data["token"])
	require.True(t, e.active(first))
	require.True(t, e.active("my_secret_token_123"))
}

func TestAPredecessorNeverBecomesTheCurrentTokenAgain(t *testing.T) {
	for name, end := range map[string]func(e *env, current string){
		"the current token was revoked": func(e *env, current string) { e.write("revoke", data{"token": current}) },
		"the current token has expired": func(e *env, _ string) { e.clock.Advance(11 * time.Minute); e.tidyToEnd() },
	} {
		t.Run("when "+name, func(t *testing.T) {
			e := newEnv(t)
			first := e.client("c", data{})
			e.write("clients/c", data{"token_ttl": "10m"})
			second := e.rotate("c", data{"grace_period": "1h", "rotation_id": "x"})
			end(e, second)

			accessor := e.lookup(first)["accessor"].(string)
			require.Equal(t, "grace", e.read("clients/c/tokens/" + accessor)["state"])
			require.Empty(t, e.read("clients/c")["accessor"])
			require.Contains(t, e.refused(logical.UpdateOperation, "renew", data{"token": first}), "has been replaced")

			left := e.lookup(first)["ttl"]
			third := e.rotate("c", data{"grace_period": "5m", "rotation_id": "x"})
			require.Equal(t, left, e.lookup(first)["ttl"], "a predecessor keeps its own end")
			require.True(t, e.active(third))
		})
	}
}
