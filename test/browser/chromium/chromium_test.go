package chromium

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// form is a page whose button goes to /sent, with more of a policy.
func form(more string) *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/sent":
			http.Redirect(w, r, "cursor://example/callback?code="+url.QueryEscape(r.FormValue("name")), http.StatusFound)
		default:
			w.Header().Set("Content-Type", "text/html")
			w.Header().Set("Content-Security-Policy", "default-src 'none'"+more)
			_, _ = w.Write([]byte(`<h1>Form</h1>
<form method="post" action="/sent"><label>Name <input name="name"></label>
<label><input type="radio" name="r"> This</label><button>Send</button></form>`))
		}
	}))
}

func TestALinkToAnotherProgramIsSeen(t *testing.T) {
	server := form("")
	defer server.Close()
	tab := Start(t, map[string]string{"form.example": server.Listener.Addr().String()}).Window(t, nil).Tab(t)
	tab.Open("http://form.example/").Heading("Form")
	tab.Fill("Name", "Ada").Choose("This").Press("Send")
	require.Equal(t, "cursor://example/callback?code=Ada", tab.Visited("cursor://"))
	require.Equal(t, "http://form.example/", tab.See().URL, "the browser stays on the page")
}

func TestAPolicyThatBlocksTheFormIsSeen(t *testing.T) {
	server := form("; form-action 'self'")
	defer server.Close()
	browser := Start(t, nil)
	tab := browser.Window(t, nil).Tab(t)
	tab.Open(server.URL).Heading("Form")
	tab.Press("Send")
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		var seen Seen
		require.NoError(c, browser.try("see", object{"tab": tab.id}, &seen))
		require.Contains(c, strings.Join(seen.Trouble, "\n"), "form-action")
		require.NotContains(c, strings.Join(seen.Visits, "\n"), "cursor://")
	}, patience, 20*time.Millisecond)
}

func TestAPageIsSeenOnceItHasComeWhole(t *testing.T) {
	rest := make(chan struct{})
	send := sync.OnceFunc(func() { close(rest) })
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte("<h1>Beginning</h1>" + strings.Repeat("<p>middle</p>", 1000)))
		w.(http.Flusher).Flush()
		<-rest
		_, _ = w.Write([]byte("<p>end</p>"))
	}))
	defer server.Close()
	defer send()
	tab := Start(t, nil).Window(t, nil).Tab(t)
	tab.Open(server.URL)
	for range 20 {
		require.Empty(t, tab.See().Heading)
	}
	send()
	require.Contains(t, tab.Heading("Beginning").Text, "end")
}
