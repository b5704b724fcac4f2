package mcp

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
)

func TestMessageIsReadWhateverItsLength(t *testing.T) {
	for _, size := range []int{0, 1, smallMessage, smallMessage + 1, minPooledSize - 1, minPooledSize, trustedSize, trustedSize + 1, maxPooledSize, maxPooledSize + 1, 1 << 20} {
		want := bytes.Repeat([]byte("x"), size)
		for how, length := range map[string]int64{"announced": int64(size), "in chunks": -1} {
			var reserved int64
			b, err := readAll(bytes.NewReader(want), length, 2<<20, func(n int64) error { reserved += n; return nil })
			require.NoError(t, err)
			require.True(t, bytes.Equal(want, b.data), "%d bytes %s", size, how)
			require.Equal(t, b.kept(), reserved, "%d bytes %s", size, how)
			require.LessOrEqual(t, reserved, int64(max(2*size+2, minPooledSize, trustedSize)), "%d bytes %s", size, how)
			b.release()
		}
	}
}

// A body that is as long as it may be takes no more than that.
func TestTheLargestMessageTakesItsBytes(t *testing.T) {
	const most = 1 << 20
	for _, length := range []int64{most, -1} {
		var reserved int64
		b, err := readAll(io.LimitReader(endless{}, most), length, most, func(n int64) error { reserved += n; return nil })
		require.NoError(t, err)
		require.Len(t, b.data, most)
		require.EqualValues(t, most+1, reserved)
	}
}

// However much is announced, memory is taken for what has come.
func TestMemoryIsTakenAsTheBodyComes(t *testing.T) {
	const announced = 64 << 20
	stopped := errors.New("stopped")
	for _, came := range []int{0, 1, 100 << 10, 1 << 20, 5 << 20} {
		var reserved int64
		_, err := readAll(io.MultiReader(strings.NewReader(strings.Repeat("x", came)), iotest.ErrReader(stopped)), announced, announced, func(n int64) error { reserved += n; return nil })
		require.ErrorIs(t, err, stopped)
		require.LessOrEqual(t, reserved, int64(max(trustedSize, 2*came+2)), "%d bytes came", came)
	}
}

func TestBodyThatThereIsNoRoomForIsNotReadOn(t *testing.T) {
	full := errors.New("full")
	left := 1 << 20
	from := &io.LimitedReader{R: endless{}, N: 64 << 20}
	_, err := readAll(from, -1, 64<<20, func(n int64) error {
		if left -= int(n); left < 0 {
			return full
		}
		return nil
	})
	require.ErrorIs(t, err, full)
	require.Greater(t, from.N, int64(62<<20))
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }
