package application

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/signin/uri"
)

func TestADocumentIsKeptAsLongAsItsServerSaysWithinBounds(t *testing.T) {
	tests := map[string]struct {
		header []string
		age    time.Duration
	}{
		"nothing said":      {nil, 10 * time.Minute},
		"an hour":           {[]string{"Cache-Control", "public, max-age=3600"}, time.Hour},
		"a second":          {[]string{"Cache-Control", "max-age=1"}, time.Minute},
		"a year":            {[]string{"Cache-Control", "max-age=31536000"}, 24 * time.Hour},
		"not at all":        {[]string{"Cache-Control", "no-store"}, time.Minute},
		"not unasked":       {[]string{"Cache-Control", "max-age=3600, no-cache"}, time.Minute},
		"what is no number": {[]string{"Cache-Control", "max-age=-1"}, time.Minute},
		"an absurd number":  {[]string{"Cache-Control", "max-age=99999999999999999999"}, time.Minute},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			b := withDocuments(t)
			b.JSON(one, document(one, nil), test.header...)
			b.find(t, one)
			b.clock.Add(test.age - time.Second)
			b.find(t, one)
			require.EqualValues(t, 1, b.asked.Load())
			b.clock.Add(2 * time.Second)
			b.JSON(one, document(one, map[string]any{"client_name": "Newer"}), test.header...)
			require.Equal(t, "Newer", b.find(t, one).Name)
			require.EqualValues(t, 2, b.asked.Load())
		})
	}
}

func TestTheLastGoodCopyOutlivesErrorsForAWeek(t *testing.T) {
	b := withDocuments(t)
	b.JSON(one, document(one, nil))
	b.find(t, one)
	for _, page := range []http.HandlerFunc{
		http.NotFound,
		func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") },
		func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, `{"client_id":"https://evil.example/"}`)
		},
	} {
		b.put(one, page)
		b.clock.Add(time.Hour)
		require.Equal(t, "Test", b.find(t, one).Name)
	}
	b.clock.Add(7 * 24 * time.Hour)
	require.Equal(t, Unavailable, b.refused(t, one).Kind, "what its owner takes away ends in any case")
}

func TestADocumentThatTakesARedirectAwayIsHeeded(t *testing.T) {
	b := withDocuments(t)
	b.JSON(one, document(one, map[string]any{"redirect_uris": []string{"https://vendor.example/cb", "https://lost.example/cb"}}))
	require.True(t, b.find(t, one).AllowsRedirect("https://lost.example/cb"))
	b.JSON(one, document(one, nil))
	b.clock.Add(time.Hour)
	require.False(t, b.find(t, one).AllowsRedirect("https://lost.example/cb"))
}

// TestAPrefixThatLeavesTheFileTakesItsApplicationsWithIt: a copy in memory does not count.
func TestAPrefixThatLeavesTheFileTakesItsApplicationsWithIt(t *testing.T) {
	b := withDocuments(t)
	b.JSON(one, document(one, nil))
	b.find(t, one)
	require.NoError(t, b.Configure(&config.SignIn{MetadataDocuments: []string{"https://claude.ai/oauth/"}}))
	require.Equal(t, Refused, b.refused(t, one).Kind)
}

func TestManyWhoAskAtOnceCauseOneFetch(t *testing.T) {
	b := withDocuments(t)
	begun, answer := make(chan struct{}), make(chan struct{})
	var once sync.Once
	b.put(one, func(w http.ResponseWriter, _ *http.Request) {
		once.Do(func() { close(begun) })
		<-answer
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"client_id":%q,"redirect_uris":["https://vendor.example/cb"]}`, one)
	})
	gone, hangUp := context.WithCancel(t.Context())
	first := make(chan error)
	go func() {
		_, err := b.Find(gone, one)
		first <- err
	}()
	<-begun
	var others sync.WaitGroup
	var found atomic.Int64
	for range 20 {
		others.Go(func() {
			if _, err := b.Find(t.Context(), one); err == nil {
				found.Add(1)
			}
		})
	}
	hangUp()
	require.Error(t, <-first, "who hangs up gets no answer")
	close(answer)
	others.Wait()
	require.EqualValues(t, 20, found.Load(), "and takes nobody else's away")
	require.EqualValues(t, 1, b.asked.Load())
}

func TestWhoMissedACopyJustBeforeItCameUsesIt(t *testing.T) {
	b := withDocuments(t)
	u, err := uri.Parse(one)
	require.NoError(t, err)
	b.JSON(one, document(one, nil))
	b.find(t, one)
	require.NoError(t, b.documents.fetch(t.Context(), u, b.documents.fresh))
	require.EqualValues(t, 1, b.asked.Load())
	b.clock.Add(time.Hour)
	require.NoError(t, b.documents.fetch(t.Context(), u, b.documents.fresh))
	require.EqualValues(t, 2, b.asked.Load(), "but not one that is too old")
}

func TestAFailureIsRememberedForAMoment(t *testing.T) {
	b := withDocuments(t)
	for range 5 {
		require.Equal(t, Unavailable, b.refused(t, one).Kind)
	}
	require.EqualValues(t, 1, b.asked.Load())
	b.JSON(one, document(one, nil))
	b.clock.Add(11 * time.Second)
	b.find(t, one)
}

// TestNobodyDrivesGoodCopiesOutWithURLsAtWhichThereIsNothing: strangers choose the URLs.
func TestNobodyDrivesGoodCopiesOutWithURLsAtWhichThereIsNothing(t *testing.T) {
	b := withDocuments(t)
	b.JSON(one, document(one, nil))
	b.find(t, one)
	for i := range maxFailures + 10 {
		b.documents.failures.Add(fmt.Sprintf("%s%d", prefix, i), failure{})
	}
	require.Equal(t, Unavailable, b.refused(t, prefix+"nothing").Kind)
	asked := b.asked.Load()
	b.find(t, one)
	require.Equal(t, asked, b.asked.Load())
	require.LessOrEqual(t, b.documents.failures.Len(), maxFailures)
}
