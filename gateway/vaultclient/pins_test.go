package vaultclient

import (
	"encoding/json"
	"errors"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/pin"
)

func TestWhatIsApprovedOfAServerIsRead(t *testing.T) {
	digest := pin.Digest{1}
	set := pin.NewSet(map[pin.Kind]map[string][]pin.Digest{pin.Tool: {"search": {digest}}})
	for name, tc := range map[string]struct {
		answer string
		fails  bool
	}{
		"an answer":           {`{"set":"` + set.ID() + `","place":"p","approved":{"tool":{"search":["` + digest.String() + `"]}},"epoch":"e","index":7}`, false},
		"an unknown kind":     {`{"set":"s","approved":{"skill":{"search":["` + digest.String() + `"]}}}`, true},
		"no valid digest":     {`{"set":"s","approved":{"tool":{"search":["sha256:00"]}}}`, true},
		"not a set":           {`{"set":"s","approved":["search"]}`, true},
		"an answer with null": {`null`, true},
	} {
		t.Run(name, func(t *testing.T) {
			v := newFakeVault(t)
			v.handler = func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/v1/mcp/gateway/pins/files" || r.Method != http.MethodGet {
					vaultError(w, http.StatusBadRequest, "not like that")
					return
				}
				vaultData(w, tc.answer)
			}
			got, err := loggedIn(t, v, appRole(t)).Pins(t.Context(), "files")
			if tc.fails {
				require.Error(t, err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, set.ID(), got.Set)
			require.Equal(t, set.ID(), got.Approved.ID())
			require.Equal(t, "p", got.Place)
			require.Equal(t, "e", got.Epoch)
			require.Equal(t, uint64(7), got.Index)
		})
	}
}

func TestAReportOfPinsSendsTheTextsInTheBody(t *testing.T) {
	v := newFakeVault(t)
	v.handler = func(w http.ResponseWriter, r *http.Request) {
		var got PinReport
		if r.URL.Path != "/v1/mcp/gateway/pins/files" || r.URL.RawQuery != "" || json.NewDecoder(r.Body).Decode(&got) != nil {
			vaultError(w, http.StatusBadRequest, "not like that")
			return
		}
		if got.Place != "p" || len(got.Definitions) != 1 || got.Definitions[0] != (PinDefinition{pin.Tool, `{"name":"a"}`}) {
			vaultError(w, http.StatusBadRequest, "not that")
			return
		}
		vaultData(w, `{"kept":1,"known":2,"refused":3,"lost":4}`)
	}
	got, err := loggedIn(t, v, appRole(t)).ReportPins(t.Context(), "files", &PinReport{Place: "p", Definitions: []PinDefinition{{pin.Tool, `{"name":"a"}`}}})
	require.NoError(t, err)
	require.Equal(t, &PinsReported{Kept: 1, Known: 2, Refused: 3, Lost: 4}, got)
}

func TestAReportOfPinsThatIsRefusedIsToldFromOneThatFails(t *testing.T) {
	for status, want := range map[int]error{
		http.StatusForbidden: ErrNoPinReports, http.StatusNotFound: ErrNoPinReports, http.StatusMethodNotAllowed: ErrNoPinReports,
		http.StatusBadRequest: ErrPinReport, http.StatusRequestEntityTooLarge: ErrPinReport, http.StatusTeapot: nil,
	} {
		v := newFakeVault(t)
		v.handler = func(w http.ResponseWriter, _ *http.Request) {
			vaultError(w, status, "1 error occurred:\n\t* permission denied\n\n")
		}
		_, err := loggedIn(t, v, appRole(t)).ReportPins(t.Context(), "files", &PinReport{})
		require.Error(t, err)
		for _, known := range []error{ErrNoPinReports, ErrPinReport} {
			require.Equal(t, errors.Is(want, known), errors.Is(err, known), "%d: %v", status, err)
		}
	}
}
