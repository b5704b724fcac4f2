package grants

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/kms"
	tokens "vault-plugin-secrets-mcp/backend/token"
	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

const (
	ourAudience = "https://mcp.example.com"
	ourMount    = "mcp_1a2b3c4d"
	firstKey    = "0000000000000001"
	secondKey   = "0000000000000002"
)

// fakeKMS unwraps a data key to itself, repeated to its size, and counts.
type fakeKMS struct {
	mu    sync.Mutex
	calls int
	err   error
}

func (f *fakeKMS) Unwrap(_ context.Context, w *kms.WrappedKey) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	if f.err != nil {
		return nil, f.err
	}
	return bytes.Repeat(w.Wrapped, kms.DataKeySize/len(w.Wrapped)), nil
}

func (f *fakeKMS) set(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

func (f *fakeKMS) asked() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls
}

var (
	errKMSRefuses = &kms.Error{Operation: "Decrypt", Key: "arn", Code: "DisabledException", Refused: true}
	errKMSSilent  = &kms.Error{Operation: "Decrypt", Key: "arn", Message: "no answer within 3s"}
)

// wrappedAs is a data key that fakeKMS unwraps.
func wrappedAs(id, mount, audience string) kms.WrappedKey {
	return kms.WrappedKey{ID: id, KeyARN: "arn:aws:kms:us-east-1:111122223333:key/k", Wrapped: []byte(id), Mount: mount, Audience: audience}
}

// addDataKey puts a data key into the model.
func (m *model) addDataKey(w kms.WrappedKey) {
	m.write(func() {
		list := vaultclient.DataKeyList{Mount: ourMount, DataKeys: map[string]vaultclient.DataKey{}}
		for id, entry := range m.wrapped.DataKeys {
			list.DataKeys[id] = entry
		}
		list.DataKeys[w.ID] = vaultclient.DataKey{
			KeyARN: w.KeyARN, Wrapped: base64.StdEncoding.EncodeToString(w.Wrapped), Mount: w.Mount, Audience: w.Audience,
		}
		m.wrapped = list
	})
}

// sealed seals a token under a data key, whoever it is for.
func sealed(t *testing.T, token string, w kms.WrappedKey) string {
	t.Helper()
	plaintext, err := new(fakeKMS).Unwrap(t.Context(), &w)
	require.NoError(t, err)
	key, err := tokens.NewSealingKey(w.ID, plaintext, w.Mount, w.Audience)
	require.NoError(t, err)
	text, err := key.Seal(rand.Reader, token)
	require.NoError(t, err)
	return text
}

const innerToken = "inner-token-of-a-client-0123456789abcdef"

// sealedBroker runs a Broker whose engine has one data key and two tokens: one
// sealed under it, which is returned in its sealed form, and one that is not
// ("plain").
func sealedBroker(t *testing.T, change func(*config.KMS)) (*Broker, *model, *fakeKMS, string) {
	t.Helper()
	m := newModel()
	m.addDataKey(wrappedAs(firstKey, ourMount, ourAudience))
	m.addToken(innerToken, "c").dataKey = firstKey
	m.addToken("plain", "p")
	settings := &config.KMS{Audience: ourAudience, Refresh: kms.Period, MaxStale: kms.MaxStale}
	if change != nil {
		change(settings)
	}
	f := &fakeKMS{}
	b := runningBrokerWith(t, m, func(b *Broker) { b.opener = newSealedTokens(settings, f, hclog.NewNullLogger()) })
	synctest.Wait()
	return b, m, f, sealed(t, innerToken, wrappedAs(firstKey, ourMount, ourAudience))
}

func TestSealedTokenIsOpenedLocally(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, m, f, token := sealedBroker(t, nil)
		for range 50 {
			require.NoError(t, grantErr(t, b, token))
		}
		require.NoError(t, grantErr(t, b, sealed(t, innerToken, wrappedAs(firstKey, ourMount, ourAudience))), "another sealing of the same token")
		require.NoError(t, grantErr(t, b, "plain"))
		require.Equal(t, 3, m.asked())
		require.Equal(t, 1, f.asked(), "KMS is asked once a data key, not once a token")
		after(24 * time.Hour)
		require.NoError(t, grantErr(t, b, token))
		require.InDelta(t, 24*60/4, f.asked(), 2, "and again every four minutes")
	})
}

func TestForgedSealsCostNobodyACall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, m, f, token := sealedBroker(t, nil)
		asked := f.asked()
		other := []byte(token)
		other[len(other)-1] = map[bool]byte{true: 'A', false: 'Q'}[other[len(other)-1] != 'A']
		for name, forged := range map[string]string{
			"truncated":                 token[:len(token)-4],
			"altered":                   string(other),
			"of another mount":          sealed(t, innerToken, wrappedAs(firstKey, "mcp_other", ourAudience)),
			"for another audience":      sealed(t, innerToken, wrappedAs(firstKey, ourMount, "other")),
			"under an unknown key":      sealed(t, innerToken, wrappedAs(secondKey, ourMount, ourAudience)),
			"replayed under another id": strings.Replace(token, token[5:17], sealed(t, innerToken, wrappedAs(secondKey, ourMount, ourAudience))[5:17], 1),
			"no seal at all":            "mcpk_",
		} {
			require.ErrorIs(t, grantErr(t, b, forged), ErrInactive, name)
		}
		require.Zero(t, m.asked())
		require.Equal(t, asked, f.asked())
	})
}

func TestTokenInASealIsRefusedByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, m, _, token := sealedBroker(t, nil)
		require.NoError(t, grantErr(t, b, token))
		require.ErrorIs(t, grantErr(t, b, innerToken), ErrInactive)
		require.ErrorIs(t, grantErr(t, b, sealed(t, "plain-token-that-is-not-sealed", wrappedAs(firstKey, ourMount, ourAudience))), ErrInactive)

		m.addDataKey(wrappedAs(secondKey, ourMount, ourAudience))
		m.mutate(vaultclient.Change{Type: typeConfig, Operation: operationUpdate, Name: "data-keys"}, func() {})
		synctest.Wait()
		require.ErrorIs(t, grantErr(t, b, sealed(t, innerToken, wrappedAs(secondKey, ourMount, ourAudience))), ErrInactive, "out of another data key's seal")
	})
}

// An engine that knows of no seals answers for the token alone.
func TestAnswerThatIsNotAboutTheSealIsNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, m, _, _ := sealedBroker(t, nil)
		m.ignoreSeals = true
		require.ErrorIs(t, grantErr(t, b, innerToken), ErrInactive)
	})
}

func TestNewDataKeyIsKnownAsSoonAsTheFeedTells(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, m, _, _ := sealedBroker(t, nil)
		next := wrappedAs(secondKey, ourMount, ourAudience)
		m.addToken("next-token-of-a-client-0123456789", "c").dataKey = secondKey
		m.addDataKey(next)
		m.announce(vaultclient.Change{Type: typeConfig, Operation: operationUpdate, Name: "data-keys"})
		synctest.Wait()
		require.NoError(t, grantErr(t, b, sealed(t, "next-token-of-a-client-0123456789", next)))
	})
}

func TestRefusedDataKeyEndsItsTokensWithinThePeriod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, m, f, token := sealedBroker(t, nil)
		require.NoError(t, grantErr(t, b, token))
		ctx, hold := b.hold(t, token, "files")
		plain, other := b.hold(t, "plain", "files")
		f.set(errKMSRefuses)
		after(kms.Period)
		require.ErrorIs(t, grantErr(t, b, token), ErrInactive)
		require.ErrorIs(t, context.Cause(ctx), ErrInactive, "a live request went on")
		require.NoError(t, plain.Err())
		require.NoError(t, grantErr(t, b, "plain"))
		hold.Release()
		other.Release()

		asked := m.asked()
		f.set(nil)
		after(time.Minute)
		require.NoError(t, grantErr(t, b, token), "it does not work again by itself")
		require.LessOrEqual(t, m.asked(), asked+1)
	})
}

func TestSilentKMSIsBorneForMaxStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _, f, token := sealedBroker(t, nil)
		require.NoError(t, grantErr(t, b, token))
		ctx, hold := b.hold(t, token, "files")
		defer hold.Release()
		f.set(errKMSSilent)
		after(kms.MaxStale - kms.Period)
		require.NoError(t, grantErr(t, b, token))
		require.NoError(t, ctx.Err())
		require.Equal(t, 1, b.Stats().Seals.Usable)
		after(kms.Period)
		require.ErrorIs(t, grantErr(t, b, token), ErrUnavailable)
		require.ErrorIs(t, context.Cause(ctx), ErrUnavailable)
		require.Equal(t, SealStats{DataKeys: 1}, b.Stats().Seals)
		require.NoError(t, grantErr(t, b, "plain"))
		f.set(nil)
		after(time.Minute)
		require.NoError(t, grantErr(t, b, token))
	})
}

func TestGrantDiesWithItsDataKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, m, _, token := sealedBroker(t, nil)
		ctx, hold := b.hold(t, token, "files")
		defer hold.Release()
		m.mutate(vaultclient.Change{Type: typeConfig, Operation: operationUpdate, Name: "data-keys"}, func() {
			m.wrapped = vaultclient.DataKeyList{Mount: ourMount}
		})
		after(time.Second)
		require.ErrorIs(t, grantErr(t, b, token), ErrInactive)
		require.ErrorIs(t, context.Cause(ctx), ErrInactive)
	})
}

func TestNobodyIsRefusedForGoodBeforeTheDataKeysAreKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		settings := &config.KMS{Audience: ourAudience, Refresh: kms.Period, MaxStale: kms.MaxStale}
		s := newSealedTokens(settings, &fakeKMS{}, hclog.NewNullLogger())
		w := wrappedAs(firstKey, ourMount, ourAudience)
		_, err := s.open(sealed(t, innerToken, w))
		require.ErrorIs(t, err, ErrUnavailable, "Vault has not said yet")

		m := newModel()
		m.addDataKey(w)
		require.NoError(t, s.setDataKeys(&m.wrapped))
		_, err = s.open(sealed(t, innerToken, w))
		require.ErrorIs(t, err, ErrUnavailable, "KMS has not said yet")
		s.client = &fakeKMS{err: errKMSSilent}
		s.refresh(t.Context())
		_, err = s.open(sealed(t, innerToken, w))
		require.ErrorIs(t, err, ErrUnavailable, "KMS does not answer")
	})
}

func TestGatewayWithoutKMSRefusesSealedTokens(t *testing.T) {
	b := brokerFor(t, newModel())
	err := grantErr(t, b, sealed(t, innerToken, wrappedAs(firstKey, ourMount, ourAudience)))
	require.ErrorIs(t, err, ErrInactive)
	require.ErrorContains(t, err, "no block kms")
	require.Equal(t, SealStats{}, b.Stats().Seals)
}

func TestGatewayThatRequiresSealsRefusesOtherTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, m, _, token := sealedBroker(t, func(k *config.KMS) { k.Required = true })
		require.NoError(t, grantErr(t, b, token))
		asked := m.asked()
		require.ErrorIs(t, grantErr(t, b, "plain"), ErrInactive)
		require.Equal(t, asked, m.asked())
	})
}

func TestMountsAccessorIsTheDefaultAudience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, m, _, token := sealedBroker(t, func(k *config.KMS) { k.Audience = "" })
		require.ErrorIs(t, grantErr(t, b, token), ErrInactive, "a data key for another audience was used")
		own := wrappedAs(secondKey, ourMount, ourMount)
		m.addToken("own-token-of-a-client-0123456789a", "c").dataKey = secondKey
		m.addDataKey(own)
		m.announce(vaultclient.Change{Type: typeConfig, Operation: operationUpdate, Name: "data-keys"})
		synctest.Wait()
		require.NoError(t, grantErr(t, b, sealed(t, "own-token-of-a-client-0123456789a", own)))
	})
}

func TestDataKeysThatDoNotReadAreNoDataKeys(t *testing.T) {
	s := newSealedTokens(&config.KMS{}, &fakeKMS{}, hclog.NewNullLogger())
	require.Error(t, s.setDataKeys(&vaultclient.DataKeyList{Mount: ourMount, DataKeys: map[string]vaultclient.DataKey{
		firstKey: {KeyARN: "arn", Wrapped: "not base64", Mount: ourMount, Audience: ourMount},
	}}))
	require.Nil(t, s.known.Load())
}
