package access

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTimesAreWrittenAsTheStandardLibraryWould(t *testing.T) {
	for _, text := range []string{"2026-01-02T03:04:05.000001Z", "1999-12-31T23:59:59.999999Z", "2024-02-29T00:00:00.000000Z", "0001-01-01T00:00:00.000000Z"} {
		at, err := time.Parse(time.RFC3339Nano, text)
		require.NoError(t, err)
		require.Equal(t, text, string(appendTime(nil, at)))
		require.Equal(t, text, string(appendTime(nil, at.In(time.FixedZone("", 3600)))))
	}
	for d, want := range map[time.Duration]string{0: "0.000", 1500 * time.Microsecond: "1.500", time.Hour: "3600000.000", 999: "0.000", -time.Second: "0.000"} {
		require.Equal(t, want, string(appendMilliseconds(nil, d)))
	}
}
