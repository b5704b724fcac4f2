package pins

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/pin"
)

// engine stands in for Vault: it answers State, and keeps writes.
type engine struct {
	*Broker

	state    State
	list     map[string]any
	refuses  bool
	warnings []string
	wrote    []map[string]any
	asked    []string // paths with their queries
}

func newEngine(t *testing.T, state State) *engine {
	t.Helper()
	e := &engine{state: state}
	server := httptest.NewServer(e)
	t.Cleanup(server.Close)
	vault, err := api.NewClient(&api.Config{Address: server.URL})
	require.NoError(t, err)
	vault.SetMaxRetries(0)
	e.Broker = &Broker{Vault: vault, Mount: "/mcp/"}
	return e
}

func (e *engine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e.asked = append(e.asked, r.Method+" "+r.URL.String())
	answer := map[string]any{"warnings": e.warnings}
	switch {
	case r.Method == http.MethodPut && e.refuses:
		w.WriteHeader(http.StatusForbidden)
		answer = map[string]any{"errors": []string{"permission denied"}}
	case r.Method == http.MethodPut:
		var body map[string]any
		_ = json.NewDecoder(r.Body).Decode(&body)
		e.wrote = append(e.wrote, body)
	case r.URL.Query().Has("list") && e.list != nil:
		answer["data"] = e.list
	case strings.HasSuffix(r.URL.Path, "/"+e.state.Server):
		answer["data"] = e.state
	case !strings.HasPrefix(r.URL.Path, "/v1/mcp/"):
		w.WriteHeader(http.StatusNotFound)
		answer = map[string]any{"errors": []string{`no handler for route "foo/pins". route entry not found.`}}
	default:
		w.WriteHeader(http.StatusNotFound)
		answer = map[string]any{"errors": []string{}}
	}
	_ = json.NewEncoder(w).Encode(answer)
}

func newState(t *testing.T) State {
	t.Helper()
	return State{
		Server: "github", Pin: pin.Enforce, PinKinds: []pin.Kind{pin.Tool, pin.Instructions}, Place: "there",
		Approved: []Entry{approved(t, pin.Tool, searchTool), approved(t, pin.Instructions, `"Be brief."`)},
		Reported: append(changed(t, "ten", "five"), reported(t, pin.Tool, `{"name":"del\u0435te"}`), reported(t, pin.Instructions, `"Be long."`)),
	}
}

// approve runs Approve and returns its output.
func (e *engine) approve(t *testing.T, wanted Wanted, consent Consent) (string, error) {
	t.Helper()
	var out strings.Builder
	err := Approve(t.Context(), e.Broker, "github", &wanted, &consent, &Output{Out: &out})
	harmless(t, out.String(), false)
	return out.String(), err
}

// written are the digests that were approved.
func (e *engine) written(t *testing.T) []string {
	t.Helper()
	require.Len(t, e.wrote, 1)
	require.Equal(t, "there", e.wrote[0]["place"])
	var digests []string
	for _, one := range e.wrote[0]["definitions"].([]any) { //nolint:forcetypeassert // see Broker.Approve
		digests = append(digests, one.(map[string]any)["digest"].(string)) //nolint:forcetypeassert // likewise
	}
	return digests
}

func TestWhatSomebodyAgreesToIsApprovedByItsDigests(t *testing.T) {
	e := newEngine(t, newState(t))
	out, err := e.approve(t, Wanted{}, Consent{In: strings.NewReader("yes\n")})
	require.NoError(t, err)
	require.Contains(t, out, "Returns at most five results.")
	require.Contains(t, out, "Approve 3 definitions of github? Only yes approves: Approved 3 definitions of github.\n")
	want := []string{}
	for _, r := range e.state.Reported {
		want = append(want, r.Digest.String())
	}
	require.ElementsMatch(t, want, e.written(t))
}

func TestNothingIsApprovedWithoutAYes(t *testing.T) {
	for name, consent := range map[string]Consent{
		"another answer":   {In: strings.NewReader("y\n")},
		"no answer":        {In: strings.NewReader("")},
		"no terminal":      {},
		"an old diff":      {Shown: pin.NewSet(nil).ID(), Yes: true},
		"a cut off digest": {Shown: "sha256:ab", Yes: true},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEngine(t, newState(t))
			_, err := e.approve(t, Wanted{}, consent)
			require.Error(t, err)
			require.Empty(t, e.wrote)
		})
	}
}

func TestADiffEndsWithTheCommandThatApprovesIt(t *testing.T) {
	e := newEngine(t, newState(t))
	c, err := e.state.Choose(&Wanted{Kind: pin.Tool})
	require.NoError(t, err)
	var out strings.Builder
	require.NoError(t, Diff(t.Context(), e.Broker, "github", &Wanted{Kind: pin.Tool}, &Output{Out: &out}))
	require.Contains(t, out.String(), "\n  mcp-bootstrap pins approve github -kind tool -shown "+c.Shown+" -yes\n")
	require.Contains(t, e.asked[0], "GET /v1/mcp/pins/github?texts=true")

	_, err = e.approve(t, Wanted{Kind: pin.Tool}, Consent{Shown: c.Shown, Yes: true})
	require.NoError(t, err)
	require.Len(t, e.written(t), 2)
}

func TestWhatWasReportedAfterADiffIsNotApproved(t *testing.T) {
	e := newEngine(t, newState(t))
	c, err := e.state.Choose(&Wanted{})
	require.NoError(t, err)
	e.state.Reported = append(e.state.Reported, reported(t, pin.Tool, `{"name":"late"}`))
	_, err = e.approve(t, Wanted{}, Consent{Shown: c.Shown, Yes: true})
	require.ErrorContains(t, err, "are not those of -shown")
	require.Empty(t, e.wrote)
}

func TestWhatOneServerHasSaidIsNotApprovedOfAnother(t *testing.T) {
	e := newEngine(t, newState(t))
	c, err := e.state.Choose(&Wanted{})
	require.NoError(t, err)
	for name, other := range map[string]func(*State){
		"that took its name": func(s *State) { s.Place = "elsewhere" },
		"of another name":    func(s *State) { s.Server = "gitlab" },
	} {
		t.Run(name, func(t *testing.T) {
			e := newEngine(t, newState(t))
			other(&e.state)
			var out strings.Builder
			err := Approve(t.Context(), e.Broker, e.state.Server, &Wanted{}, &Consent{Shown: c.Shown, Yes: true}, &Output{Out: &out})
			require.ErrorContains(t, err, "are not those of -shown")
			require.Empty(t, e.wrote)
		})
	}
}

func TestATextThatIsNotThatOfItsDigestIsNotShownAndNotApproved(t *testing.T) {
	for name, spoil := range map[string]func(*State){
		"a reported one":               func(s *State) { s.Reported[0].Text = s.Approved[0].Text },
		"an approved one":              func(s *State) { s.Approved[0].Text = s.Reported[0].Text },
		"one of another name":          func(s *State) { s.Reported[0].Name.Name, s.Reported[0].Change = "other", isNew },
		"one that is not a definition": func(s *State) { s.Reported[0].Text = "{" },
	} {
		t.Run(name, func(t *testing.T) {
			state := newState(t)
			spoil(&state)
			e := newEngine(t, state)
			out, err := e.approve(t, Wanted{}, Consent{In: strings.NewReader("yes\n")})
			require.ErrorContains(t, err, "not all of this can be approved")
			require.Contains(t, out, "is not the one that its digest is of")
			require.NotContains(t, out, "five results")
			require.Empty(t, e.wrote)
			var diff strings.Builder
			require.NoError(t, Diff(t.Context(), e.Broker, "github", &Wanted{}, &Output{Out: &diff}))
			require.NotContains(t, diff.String(), "To approve")
		})
	}
}

func TestATextThatIsNotKeptIsApprovedByItsDigestAlone(t *testing.T) {
	state := newState(t)
	state.Reported = []Entry{{Name: Name{pin.Tool, "search"}, Digest: pin.Digest{7}, At: june, Size: 200_000}}
	e := newEngine(t, state)
	_, err := e.approve(t, Wanted{Names: []string{"search"}}, Consent{In: strings.NewReader("yes\n")})
	require.ErrorContains(t, err, "not all of this can be approved")
	require.Empty(t, e.wrote)
	_, err = e.approve(t, Wanted{Digest: &pin.Digest{7}}, Consent{Yes: true})
	require.NoError(t, err)
	require.Equal(t, []string{pin.Digest{7}.String()}, e.written(t))
}

func TestDefinitionsAreChosenByNameKindAndDigest(t *testing.T) {
	state := newState(t)
	first := state.Reported[0].Digest
	for name, test := range map[string]struct {
		wanted Wanted
		want   int
		err    string
	}{
		"all":               {Wanted{}, 3, ""},
		"a kind":            {Wanted{Kind: pin.Instructions}, 1, ""},
		"a name":            {Wanted{Names: []string{"search"}}, 1, ""},
		"two names":         {Wanted{Names: []string{"search", "del\u0435te"}}, 2, ""},
		"a digest":          {Wanted{Digest: &first}, 1, ""},
		"a look-alike":      {Wanted{Names: []string{"delete"}}, 0, `no definition that is called "delete" is reported of github`},
		"a kind without it": {Wanted{Names: []string{"search"}, Kind: pin.Prompt}, 0, `no definition that is called "search" is reported`},
		"another digest":    {Wanted{Digest: &pin.Digest{1}}, 0, "no definition of github with this digest is reported"},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := state.Choose(&test.wanted)
			if test.err != "" {
				require.ErrorContains(t, err, test.err)
				return
			}
			require.NoError(t, err)
			require.Len(t, c.Items, test.want)
		})
	}
}

func TestErrorsAndWarningsOfVaultAreTold(t *testing.T) {
	e := newEngine(t, newState(t))
	e.warnings = []string{"look at \x1b[2Jthis"}
	out, err := e.approve(t, Wanted{}, Consent{In: strings.NewReader("yes\n")})
	require.NoError(t, err)
	require.Contains(t, out, "warning: look at <U+001B ESCAPE>[2Jthis\n")
	e.refuses = true
	_, err = e.approve(t, Wanted{}, Consent{In: strings.NewReader("yes\n")})
	require.ErrorContains(t, err, "nothing was approved: 403 permission denied")
	_, err = e.Read(t.Context(), "gitlab", false)
	require.ErrorContains(t, err, `there is no server "gitlab"`)
}

func TestListsAreShown(t *testing.T) {
	e := newEngine(t, newState(t))
	e.list = map[string]any{"keys": []string{"github", "jira"}, "key_info": map[string]any{
		"github": map[string]any{"pin": "enforce", "approved": 2, "reported": 3}, "jira": map[string]any{"pin": "off", "approved": 0, "reported": 12},
	}}
	var out strings.Builder
	require.NoError(t, ListServers(t.Context(), e.Broker, &Output{Out: &out}))
	require.NoError(t, List(t.Context(), e.Broker, "github", &Wanted{}, &Output{Out: &out}))
	require.NoError(t, List(t.Context(), e.Broker, "github", &Wanted{Names: []string{"search"}}, &Output{Out: &out}))
	golden(t, "lists", out.String())
	harmless(t, out.String(), false)

	for _, wanted := range []Wanted{{}, {Kind: pin.Tool, Names: []string{"search"}}} {
		out.Reset()
		require.NoError(t, List(t.Context(), e.Broker, "github", &wanted, &Output{Out: &out, Format: "json"}))
		require.True(t, json.Valid([]byte(out.String())))
		harmless(t, out.String(), false)
	}
	require.ErrorContains(t, List(t.Context(), e.Broker, "github", &Wanted{Names: []string{"x"}}, &Output{Out: &out}), "no such definition of github")
	out.Reset()
	e.list = nil
	require.NoError(t, ListServers(t.Context(), e.Broker, &Output{Out: &out}))
	require.Equal(t, "No server has pins.\n", out.String())
}

func TestAMountThatDoesNotExistIsAnError(t *testing.T) {
	e := newEngine(t, newState(t))
	e.Mount = "foo"
	err := ListServers(t.Context(), e.Broker, &Output{Out: io.Discard})
	require.ErrorContains(t, err, "cannot list foo/pins/: 404 no handler for route")
	require.ErrorContains(t, err, "give -mount")
	_, err = e.Read(t.Context(), "gitlab", false)
	require.ErrorContains(t, err, "give -mount")
}

func TestAnApprovalOfWhatIsApprovedSaysSo(t *testing.T) {
	state := newState(t)
	state.Reported = state.Reported[:1] // search, changed
	held := state.Approved[0].Digest
	for name, test := range map[string]struct {
		wanted  Wanted
		consent Consent
		want    string
	}{
		"by its digest": {Wanted{Digest: &held}, Consent{Yes: true}, `github: already approved: tool "search".`},
		"by its kind and digest, with the name": {
			Wanted{Names: []string{"search"}, Kind: pin.Tool, Digest: &held},
			Consent{Yes: true},
			`github: already approved: tool "search".`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEngine(t, state)
			out, err := e.approve(t, test.wanted, test.consent)
			require.NoError(t, err)
			require.Contains(t, out, test.want)
			require.Empty(t, e.wrote)
		})
	}

	before, err := state.Choose(&Wanted{})
	require.NoError(t, err)
	approved := state.Reported[0]
	approved.At = approved.At.Add(1)
	state.Approved, state.Reported = append(state.Approved, approved), nil
	e := newEngine(t, state)
	out, err := e.approve(t, Wanted{}, Consent{Shown: before.Shown, Yes: true})
	require.NoError(t, err, "the same command again")
	require.Contains(t, out, "all that was shown is already approved")
	_, err = e.approve(t, Wanted{}, Consent{Shown: pin.NewSet(nil).ID(), Yes: true})
	require.ErrorContains(t, err, "are not those of -shown any more")
	require.Empty(t, e.wrote)
}

func TestAnErrorSaysWhichFlagIsMissing(t *testing.T) {
	e := newEngine(t, newState(t))
	for _, kind := range []string{"server", "instructions"} {
		_, err := e.approve(t, Wanted{Names: []string{kind}}, Consent{Yes: true})
		require.ErrorContains(t, err, "has no name: give -kind "+kind)
	}
	c, err := e.state.Choose(&Wanted{})
	require.NoError(t, err)
	_, err = e.approve(t, Wanted{}, Consent{Shown: c.Shown})
	require.EqualError(t, err, "there is no terminal to ask at: add -yes")
	require.Empty(t, e.wrote)
}
