package credentials

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/credential"
	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

// signedIn is the grant of a person with an application, who acts as the client "engineering".
func signedIn(t testing.TB, signIn, login, person, application string) *grants.Grant {
	t.Helper()
	return grantOf(t, "engineering", func(l *vaultclient.Lookup) {
		l.Kind, l.Resource, l.Application, l.Login = vaultclient.KindLeased, "https://mcp.example.com/sign-in/mcp", application, login
		l.Person, l.EntityID, l.SignIn, l.Accessor = person, "entity-of-"+person, signIn, "accessor-in-"+signIn
	})
}

// personalServer has a credential of the client's, and one of the person's.
func personalServer() *grants.Server {
	of := databaseServer("orders")
	of.Credentials["mine"] = credential.Spec{Path: "kv/data/people/{{person.alias}}/github"}
	of.Headers["X-Mine"] = "{{mine.token}}"
	return of
}

func personalPath(person string) string { return "kv/data/people/mcp:employees:" + person + "/github" }

// people gives each person a secret.
func (s *stage) people(names ...string) {
	s.vault.engines[dbPath] = database(time.Hour, 0)
	for _, person := range names {
		s.vault.engines[personalPath(person)] = engine{fields: func(_ int, alias string) map[string]any {
			return map[string]any{"token": person + " read by " + alias}
		}}
	}
}

func (s *stage) getFor(server *Server, grant *grants.Grant) *Set {
	s.t.Helper()
	set, err := server.Get(context.Background(), grant)
	require.NoError(s.t, err)
	return set
}

func TestAPersonsCredentialIsReadAsThePersonAndOthersAsTheClient(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		t := s.t
		s.people("ann@example.com")
		set := s.getFor(s.register(personalServer()), signedIn(t, "s1", "employees", "ann@example.com", "claude"))
		require.Equal(t, []string{"ann@example.com read by mcp:employees:ann@example.com"}, set.Header()["X-Mine"])
		require.Equal(t, []string{"mcp:engineering"}, set.Header()["X-User"])
		require.NotEmpty(t, set.Accessor())
		require.NotEmpty(t, set.PersonAccessor())
		require.NotEqual(t, set.Accessor(), set.PersonAccessor(), "two tokens: Vault's ACL decides about each")
		require.Equal(t, 2, s.vault.alive())
		s.OnEnd(grants.End{Grant: signedIn(t, "s1", "employees", "ann@example.com", "claude"), Lost: true, Last: true})
		synctest.Wait()
		require.Zero(t, s.vault.alive(), "both end with the principal")
	})
}

func TestAServerWithoutAPersonsCredentialTakesNoTokenOfThePerson(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		t := s.t
		s.people("ann")
		set := s.getFor(s.server("orders"), signedIn(t, "s1", "employees", "ann", "claude"))
		require.Empty(t, set.PersonAccessor())
		require.Equal(t, 1, s.vault.alive())

		of := personalServer()
		delete(of.Credentials, "db")
		of.Name, of.ID, of.Headers = "mine", "id-of-mine", map[string]string{"X-Mine": "{{mine.token}}"}
		set = s.getFor(s.register(of), signedIn(t, "s1", "employees", "ann", "claude"))
		require.Empty(t, set.Accessor())
		require.NotEmpty(t, set.PersonAccessor())
		require.Equal(t, 2, s.vault.alive())
	})
}

// Two colleagues who act as one client, and two applications of one person, share no credential.
func TestPeopleAndApplicationsShareNoCredential(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		t := s.t
		s.people("ann", "ben")
		server := s.register(personalServer())
		passwords := map[string]string{}
		for name, grant := range map[string]*grants.Grant{
			"ann with claude": signedIn(t, "s1", "employees", "ann", "claude"),
			"ben with claude": signedIn(t, "s2", "employees", "ben", "claude"),
			"ann with cursor": signedIn(t, "s3", "employees", "ann", "cursor"),
		} {
			password := s.getFor(server, grant).Header().Get("X-Password")
			require.Empty(t, passwords[password], "%s has the credentials of %s", name, passwords[password])
			passwords[password] = name
		}
		require.Equal(t, "ann with claude", passwords[s.getFor(server, signedIn(t, "s4", "employees", "ann", "claude")).Header().Get("X-Password")],
			"a person's next sign-in with the application goes on with what was leased")
		require.Equal(t, 6, s.vault.alive())
	})
}

// A name that a path cannot have is refused before any request to Vault.
func TestAPersonsNameThatNoPathTakesIsRefusedWithWords(t *testing.T) {
	tests := map[string]struct{ person, words string }{
		"nobody is signed in":         {"", "nobody is signed in"},
		"a colon":                     {"x:ann", "has a colon"},
		"a slash":                     {"../ben", "has a character that no path takes"},
		"two dots":                    {"a..b", "has a character that no path takes"},
		"a space":                     {"Ann Smith", "has a character that no path takes"},
		"a letter that looks like it": {"\u0430nn", "has a character that no path takes"},
		"a placeholder":               {"{{client.alias}}", "has a character that no path takes"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			onStage(t, nil, func(s *stage) {
				s.people("ann", "ben")
				grant := grantOf(s.t, "engineering", nil)
				if test.person != "" {
					grant = signedIn(s.t, "s", "employees", test.person, "a")
				}
				_, err := s.register(personalServer()).Get(context.Background(), grant)
				var refused *Error
				require.ErrorAs(s.t, err, &refused)
				require.Equal(s.t, FailurePath, refused.Failure)
				require.Contains(s.t, refused.Error(), test.words)
				require.Zero(s.t, s.vault.count("create"), "no token is made for it")
			})
		})
	}
}

// Under another name, at another login, the same person has other secrets.
func TestAPersonUnderAnotherNameGetsOtherCredentials(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		t := s.t
		s.people("ann")
		s.vault.engines["kv/data/people/mcp:contractors:ann/github"] = engine{fields: func(_ int, alias string) map[string]any {
			return map[string]any{"token": "read by " + alias}
		}}
		server := s.register(personalServer())
		employee := signedIn(t, "s1", "employees", "ann", "claude")
		first := s.getFor(server, employee)
		after(time.Second)
		second := s.getFor(server, signedIn(t, "s2", "contractors", "ann", "claude"))
		require.Equal(t, []string{"read by mcp:contractors:ann"}, second.Header()["X-Mine"])
		require.NotEqual(t, first.Header()["X-Mine"], second.Header()["X-Mine"])
		again := s.getFor(server, employee)
		require.Equal(t, first.Header()["X-Mine"], again.Header()["X-Mine"], "each token has those of its own login")
	})
}

func TestWhatWasLeasedInASignInWaitsOverExpiryAndEndsWithIt(t *testing.T) {
	const client = "id-of-engineering"
	ann, ben := signedIn(t, "s1", "employees", "ann", "claude"), signedIn(t, "s2", "employees", "ben", "claude")
	tests := map[string]struct {
		end  grants.End
		ends bool
	}{
		"its token has expired":                     {grants.End{Grant: ann, Expired: true, Last: true}, false},
		"it was revoked unheard":                    {grants.End{Unheard: true, ClientID: client, SignIn: "s1"}, true},
		"another one was revoked unheard":           {grants.End{Unheard: true, ClientID: client, SignIn: "s2"}, false},
		"a token of the client's own was, unheard":  {grants.End{Unheard: true, ClientID: client, OwnTokens: true}, false},
		"the client was revoked unheard":            {grants.End{Unheard: true, ClientID: client}, true},
		"another client was revoked unheard":        {grants.End{Unheard: true, ClientID: "id-of-another"}, false},
		"its token was revoked, and none is left":   {grants.End{Grant: ann, Lost: true, Last: true}, true},
		"a colleague's token was, and none is left": {grants.End{Grant: ben, Lost: true, Last: true}, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			onStage(t, nil, func(s *stage) {
				t := s.t
				s.people("ann")
				set := s.getFor(s.register(personalServer()), ann)
				s.live.Store(false)
				s.OnEnd(test.end)
				synctest.Wait()
				require.Equal(t, !test.ends, s.vault.works(set))
				after(usual().IdleTimeout + time.Minute)
				require.Zero(t, s.vault.alive(), "idle_timeout ends it in any case")
			})
		})
	}
}

// Vault's audit log names whose token it was.
func TestChildTokensOfPeopleSayWhose(t *testing.T) {
	onStage(t, nil, func(s *stage) {
		t := s.t
		s.people("ann")
		asked := []string{}
		s.vault.asked = func(r vaultclient.ChildRequest) {
			asked = append(asked, fmt.Sprint(r.Alias, " ", r.Metadata["mcp_client"], " ", r.Metadata["mcp_login"], " ", r.Metadata["mcp_person"]))
		}
		s.getFor(s.register(personalServer()), signedIn(t, "s1", "employees", "ann", "claude"))
		slices.Sort(asked)
		require.Equal(t, []string{"mcp:employees:ann engineering employees ann", "mcp:engineering engineering employees ann"}, asked)
	})
}
