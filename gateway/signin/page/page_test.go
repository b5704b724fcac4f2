package page_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/signin/page"
)

func TestPagesCarryTheHeadersThatKeepThemSafe(t *testing.T) {
	w := httptest.NewRecorder()
	page.Error(w, http.StatusBadRequest, page.BeginAgain())
	require.Equal(t, http.StatusBadRequest, w.Code)
	require.Equal(t, "text/html; charset=utf-8", w.Header().Get("Content-Type"))
	require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
	require.Equal(t, "nosniff", w.Header().Get("X-Content-Type-Options"))
	require.Equal(t, "same-origin", w.Header().Get("Referrer-Policy"))
	require.Contains(t, w.Body.String(), "<h1>This sign-in has ended</h1>")
}
