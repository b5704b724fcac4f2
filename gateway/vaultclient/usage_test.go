package vaultclient

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAReportOfUsageSendsWhatWasUsedInTheBody(t *testing.T) {
	v := newFakeVault(t)
	v.handler = func(w http.ResponseWriter, r *http.Request) {
		var got UsageReport
		if r.URL.Path != "/v1/mcp/gateway/usage" || r.URL.RawQuery != "" || json.NewDecoder(r.Body).Decode(&got) != nil {
			vaultError(w, http.StatusBadRequest, "not like that")
			return
		}
		if got.Gateway != "g" || got.Day != "2026-11-30" || !got.Closed || got.Lost != 2 || got.Clients["c"].Servers["jira"][0] != "search" {
			vaultError(w, http.StatusBadRequest, "not that")
			return
		}
		vaultData(w, `{"refused":3,"usage_days":90}`)
	}
	refused, err := loggedIn(t, v, appRole(t)).ReportUsage(t.Context(), &UsageReport{
		Gateway: "g", Day: "2026-11-30", Closed: true, Lost: 2,
		Clients: map[string]*ClientUsage{"c": {Tokens: []string{"a"}, Servers: map[string][]string{"jira": {"search"}}}},
	})
	require.NoError(t, err)
	require.Equal(t, 3, refused)
}

func TestVaultThatTakesNoReportsIsToldFromOneThatFails(t *testing.T) {
	for status, unsupported := range map[int]bool{
		http.StatusForbidden: true, http.StatusNotFound: true, http.StatusMethodNotAllowed: true,
		http.StatusBadRequest: false, http.StatusTeapot: false,
	} {
		v := newFakeVault(t)
		v.handler = func(w http.ResponseWriter, _ *http.Request) {
			vaultError(w, status, "1 error occurred:\n\t* permission denied\n\n")
		}
		_, err := loggedIn(t, v, appRole(t)).ReportUsage(t.Context(), &UsageReport{})
		require.Error(t, err)
		if unsupported {
			require.ErrorIs(t, err, ErrNoUsage, status)
		} else {
			require.NotErrorIs(t, err, ErrNoUsage, status)
		}
	}
}

// TestAnEngineThatDoesNotKnowTheGatewaysIdHasAChangeFeed: one of an earlier version refuses the
// field, and revocations must not wait for its upgrade.
func TestAnEngineThatDoesNotKnowTheGatewaysIdHasAChangeFeed(t *testing.T) {
	v := newFakeVault(t)
	var ids []string
	old := true
	v.handler = func(w http.ResponseWriter, r *http.Request) {
		ids = append(ids, r.URL.Query().Get("gateway"))
		if old && r.URL.Query().Has("gateway") {
			vaultError(w, http.StatusBadRequest, `unknown field "gateway": this path takes epoch, index, wait`)
			return
		}
		vaultData(w, `{"epoch":"e","index":1}`)
	}
	e := loggedIn(t, v, appRole(t)).For("the-id")
	for range 2 {
		answer, err := e.Changes(t.Context(), "e", 1, time.Second)
		require.NoError(t, err)
		require.Equal(t, "e", answer.Epoch)
	}
	require.Equal(t, []string{"the-id", "", ""}, ids, "it is asked once, and then without")

	old, ids = false, nil
	e.sender.unnamed.Store(time.Now().Add(-time.Second).Unix())
	_, err := e.Changes(t.Context(), "e", 1, time.Second)
	require.NoError(t, err)
	require.Equal(t, []string{"the-id"}, ids, "after a while it may be a newer one")
}
