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
		if got, err := Duration(text); err == nil || !strings.Contains(err.Error(), "is not a valid duration: write 720h, 30d or a number of seconds") {
			t.Errorf("%q: %s, %v", text, got, err)
		}
	}
}

func TestFractionsOfASecondAreRefused(t *testing.T) {
	for value, instead := range map[any]string{
		"900ms": "such as 1s", "1ns": "such as 1s", "0.1s": "such as 1s", "1500ms": "such as 2s", "1h0.5s": "such as 1h0m1s",
		0.9: "such as 1s", float32(1.5): "such as 2s",
	} {
		if got, err := Duration(value); err == nil || !strings.Contains(err.Error(), "has a fraction of a second") || !strings.Contains(err.Error(), instead) {
			t.Errorf("%v: %s, %v", value, got, err)
		}
	}
	for value, want := range map[any]time.Duration{"0.5h": 30 * time.Minute, "0.7m": 42 * time.Second, 2.0: 2 * time.Second, "3000ms": 3 * time.Second, "0ms": 0} {
		if got, err := Duration(value); err != nil || got != want {
			t.Errorf("%v: %s, %v", value, got, err)
		}
	}
	for value, want := range map[any]time.Duration{"900ms": 900 * time.Millisecond, "4312ms": 4312 * time.Millisecond, "5": 5 * time.Second, 0.5: 500 * time.Millisecond} {
		if got, err := FineDuration(value); err != nil || got != want {
			t.Errorf("%v: %s, %v", value, got, err)
		}
	}
	for _, value := range []any{"-900ms", -0.5} {
		if got, err := Duration(value); err == nil || !strings.Contains(err.Error(), "is not a valid duration") {
			t.Errorf("%v: %s, %v", value, got, err)
		}
	}
}
