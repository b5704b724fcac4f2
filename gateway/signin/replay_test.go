package signin

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAReplayEndsTheSignIn(t *testing.T) {
	for name, replay := range map[string]func(*stage, []string) string{
		"the one before, a second after its minute": func(s *stage, used []string) string {
			s.pass(grace + time.Second)
			return used[2]
		},
		"the second one before, within the minute": func(_ *stage, used []string) string { return used[1] },
		"the very first": func(_ *stage, used []string) string { return used[0] },
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			used := []string{s.tokens().Refresh}
			for range 3 {
				used = append(used, s.refresh(used[len(used)-1]).ok(t).Refresh)
			}
			s.refresh(replay(s, used)).is(t, 400, codeInvalidGrant)
			require.Equal(t, 1, s.counted[eventReplayed])
			line := s.audit.written[len(s.audit.written)-1]
			require.Equal(t, []string{eventReplayed, reasonReplay, "accessor-2"}, []string{line.Event, line.Reason, line.SignIn})
			s.ended(used...)
		})
	}
}

// TestAThiefAndTheOwnerInTurns, more than a minute apart: the second of them ends it for both.
func TestAThiefAndTheOwnerInTurns(t *testing.T) {
	s := newStage(t)
	stolen := s.tokens().Refresh
	thiefs := s.refresh(stolen).ok(t).Refresh
	s.pass(grace + time.Second)
	s.refresh(stolen).is(t, 400, codeInvalidGrant)
	s.ended(stolen, thiefs)
}

// TestAThiefInsideTheGrace is served as a second process would be, and seen: each repetition is
// a line and a count. The first of the two who is late ends it.
func TestAThiefInsideTheGrace(t *testing.T) {
	s := newStage(t)
	stolen := s.tokens().Refresh
	owners := s.refresh(stolen).ok(t).Refresh
	s.pass(30 * time.Second)
	thiefs := s.refresh(stolen).ok(t).Refresh
	require.Equal(t, 1, s.counted[eventRepeated])
	s.pass(10 * time.Minute)
	owners = s.refresh(owners).ok(t).Refresh
	s.pass(10 * time.Minute)
	s.refresh(thiefs).is(t, 400, codeInvalidGrant)
	s.ended(owners, thiefs)
}

// TestAReplayIsNotOverUntilVaultHasEndedIt: without that, the other party would go on.
func TestAReplayIsNotOverUntilVaultHasEndedIt(t *testing.T) {
	s := newStage(t)
	first := s.tokens().Refresh
	second := s.refresh(first).ok(t).Refresh
	s.pass(grace + time.Second)
	s.failing("Revoke", errDown)
	s.refresh(first).is(t, 503, codeUnavailable)
	s.failing("Revoke", nil)
	s.refresh(first).is(t, 400, codeInvalidGrant)
	s.ended(second)
}

// TestANodeOfVaultThatLagsBehind answers with the generation before: the one that is shown is
// authentic by its seal.
func TestANodeOfVaultThatLagsBehind(t *testing.T) {
	s := newStage(t)
	token := s.tokens().Refresh
	for range 3 {
		token = s.refresh(token).ok(t).Refresh
	}
	held := s.vault.tokens["hvs.person-2"].generations
	require.Len(t, held, 4)
	delete(held, 4)
	token = s.refresh(token).ok(t).Refresh
	require.Contains(t, held, uint64(5), "the next one is above the one that was shown, not above the stored one")
	clear(held)
	s.refresh(token).ok(t, "and so where it knows of none")
}
