package kms_test

import (
	"context"
	"crypto/rand"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/kms"
	double "vault-plugin-secrets-mcp/test/kms"
)

// ring is a keyring with one data key that it has never seen, and a clock.
type ring struct {
	*kms.Keyring
	t      *testing.T
	server *double.Server
	client *kms.Client
	key    kms.WrappedKey
	arn    string
	now    time.Time
}

func newRing(t *testing.T) *ring {
	t.Helper()
	r := &ring{t: t, server: start(t), now: time.Now()}
	r.arn = r.server.CreateKey("")
	r.client = client(t, settings(r.server))
	r.Keyring = kms.NewKeyring(kms.Options{Now: func() time.Time { return r.now }})
	made, err := r.client.GenerateDataKey(t.Context(), r.arn, kms.DataKeyContext(mount, "gateway"))
	require.NoError(t, err)
	r.key = kms.WrappedKey{ID: "0123456789abcdef", KeyARN: made.KeyARN, Wrapped: made.Wrapped, Mount: mount, Audience: "gateway"}
	r.server.ResetCalls()
	return r
}

func (r *ring) ask() error {
	r.t.Helper()
	key, err := r.Key(r.t.Context(), r.client, &r.key)
	if err == nil {
		require.Equal(r.t, r.key.ID, key.ID())
	}
	return err
}

func TestADataKeyIsUnwrappedOnceAPeriod(t *testing.T) {
	r := newRing(t)
	for range 10 {
		require.NoError(t, r.ask())
	}
	require.Equal(t, 1, r.server.Calls("Decrypt"))
	r.now = r.now.Add(kms.Period)
	require.NoError(t, r.ask())
	require.NoError(t, r.ask())
	require.Equal(t, 2, r.server.Calls("Decrypt"))
}

func TestManyWhoNeedAKeyAskForItOnce(t *testing.T) {
	r := newRing(t)
	f := double.Slow("Decrypt", 100*time.Millisecond)
	r.server.Fail(f)
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			_, err := r.Key(t.Context(), r.client, &r.key)
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	require.Equal(t, 1, r.server.Calls("Decrypt"))
}

func TestADisabledKeyIsOutWithinThePeriodAndComesBackByItself(t *testing.T) {
	r := newRing(t)
	require.NoError(t, r.ask())
	r.server.Disable(r.arn)
	r.now = r.now.Add(kms.Period)
	require.True(t, kms.Refused(r.ask()))
	_, err := r.Held(r.key.ID)
	require.ErrorContains(t, err, "DisabledException")
	calls := r.server.Calls("")
	require.Error(t, r.ask())
	require.Equal(t, calls, r.server.Calls(""), "a refusal was asked for again at once")

	r.server.Enable(r.arn)
	r.now = r.now.Add(time.Minute)
	require.NoError(t, r.ask())
}

func TestAKnownKeyGoesOnForABoundedTimeWithoutKMS(t *testing.T) {
	for name, fault := range map[string]double.Fault{
		"throttled": double.Throttle(""), "out of order": double.Outage(), "unreachable": double.Unreachable(),
	} {
		t.Run(name, func(t *testing.T) {
			r := newRing(t)
			require.NoError(t, r.ask())
			r.server.Fail(fault)
			r.now = r.now.Add(kms.MaxStale - time.Second)
			require.NoError(t, r.ask())
			r.now = r.now.Add(time.Second)
			err := r.ask()
			require.ErrorContains(t, err, "was not confirmed for 1h")
			require.False(t, kms.Refused(err))
			r.server.Recover()
			r.now = r.now.Add(time.Minute)
			require.NoError(t, r.ask())
		})
	}
}

func TestANoOutlastsTheSilenceThatFollowsIt(t *testing.T) {
	r := newRing(t)
	require.NoError(t, r.ask())
	r.server.Disable(r.arn)
	r.now = r.now.Add(kms.Period)
	require.Error(t, r.ask())
	r.server.Fail(double.Unreachable())
	r.now = r.now.Add(time.Minute)
	require.Error(t, r.ask(), "a key that KMS had refused came back while KMS did not answer")
}

func TestAnUnknownKeyIsNotMadeUpWithoutKMS(t *testing.T) {
	r := newRing(t)
	r.server.Fail(double.Unreachable())
	require.Error(t, r.ask())
	_, err := kms.NewKeyring(kms.Options{}).Held(r.key.ID)
	require.ErrorIs(t, err, kms.ErrUnknownKey)
}

func TestADataKeyForAnotherAudienceIsRefused(t *testing.T) {
	r := newRing(t)
	r.key.Audience = "another"
	err := r.ask()
	require.True(t, kms.Refused(err))
	require.ErrorContains(t, err, "InvalidCiphertextException")
}

func TestAKeyThatWasJustMadeNeedsNoCall(t *testing.T) {
	r := newRing(t)
	plaintext := []byte("0123456789abcdef0123456789abcdef")
	made, err := r.Put(&r.key, plaintext)
	require.NoError(t, err)
	require.Equal(t, make([]byte, kms.DataKeySize), plaintext, "the key's bytes were not cleared")
	_, err = made.Seal(rand.Reader, "my_custom_token_123")
	require.NoError(t, err)
	require.NoError(t, r.ask())
	require.Zero(t, r.server.Calls(""))
	r.Keep(func(string) bool { return false })
	_, err = r.Held(r.key.ID)
	require.ErrorIs(t, err, kms.ErrUnknownKey)
}

func TestOneWhoCannotWaitIsToldSo(t *testing.T) {
	r := newRing(t)
	r.server.Fail(double.Slow("Decrypt", time.Hour))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := r.Key(ctx, r.client, &r.key)
	require.ErrorContains(t, err, "KMS does not answer Decrypt")
	require.False(t, kms.Refused(err))
}
