package check

import (
	"strings"
	"testing"
	"time"
)

func TestDurationsAreReadAsVaultReadsThem(t *testing.T) {
	for text, want := range map[string]time.Duration{"": 0, "90": 90 * time.Second, "1h30m": 90 * time.Minute, "30d": 30 * 24 * time.Hour} {
		if got, err := Duration(text); err != nil || got != want {
			t.Errorf("%q: %s, %v", text, got, err)
		}
	}
	for _, text := range []string{"soon", "-1h", "-5", "1w", "d", "30days", "99999999999999999999d"} {
		if got, err := Duration(text); err == nil || !strings.Contains(err.Error(), "is no duration: write 720h, 30d or a number of seconds") {
			t.Errorf("%q: %s, %v", text, got, err)
		}
	}
}
