package pins

import (
	"testing"

	"vault-plugin-secrets-mcp/test/harness"
)

// TestPins is every test that shares a Vault and two gateways: to start them takes longer than
// most of the tests.
func TestPins(t *testing.T) {
	s := newPinned(t, harness.WithCluster(1)) // which keeps its storage when it is killed
	for _, part := range []struct {
		name string
		run  func(t *testing.T, s *pinned)
	}{
		{"every definition is judged wherever a client gets it", judgedEverywhere},
		{"every call by name is judged", judgedByName},
		{"a client listens to approved resources alone", listeningIsJudged},
		{"nothing without an approval is shown, whatever the server does", nothingElseIsShown},
		{"nothing comes on a stream that is resumed", nothingComesOnAResumedStream},
		{"nothing that resembles an approved text is shown", nothingThatLooksAlikeIsShown},
		{"clients hear of changes, and see approved texts alone", changesAreHeard},
		{"a change of pins reaches two gateways", aFlipIsQuick},
		{"a gateway's login approves nothing", aGatewayApprovesNothing},
		{"a registration that points elsewhere begins again", anotherPlaceBeginsAgain},
		{"a server that changes all the time slows nobody", aFloodIsBounded},
		{"a server whose pins cannot be read is not reached", unreadPinsAreNoPass},
		{"pins outlive Vault", pinsOutliveVault},
	} {
		t.Run(part.name, func(t *testing.T) { part.run(t, s.in(t)) })
	}
}
