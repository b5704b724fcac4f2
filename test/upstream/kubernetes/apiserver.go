package kubernetes

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/stretchr/testify/require"
)

// Issuer is the iss of the tokens, as that of a cluster.
const Issuer = "https://kubernetes.default.svc.cluster.local"

// apiAudience is the API server's own.
const apiAudience = Issuer

// reviewerNamespace is the namespace of Vault's own service account, which may review tokens.
const reviewerNamespace = "vault"

// APIServer stands in for the API server of a cluster: it signs tokens of service accounts,
// and reviews them.
//
// https://kubernetes.io/docs/reference/kubernetes-api/authentication-resources/token-review-v1/
type APIServer struct {
	*httptest.Server

	t   testing.TB
	key *ecdsa.PrivateKey

	mu      sync.Mutex
	pods    map[string]bool // by name: those that run
	reviews int
	down    bool
}

// Account is a service account, in a pod.
type Account struct{ Namespace, Name, UID, Pod string }

// claims are those of a token of a service account that the kubelet has projected into a pod.
type claims struct {
	jwt.Claims
	Audiences  []string `json:"aud"` // a list, always
	Kubernetes struct {
		Namespace string `json:"namespace"`
		Account   object `json:"serviceaccount"`
		Pod       object `json:"pod"`
	} `json:"kubernetes.io"`
}

type object struct {
	Name string `json:"name"`
	UID  string `json:"uid"`
}

var errNoPod = errors.New("the pod of the token does not run")

// NewAPIServer starts one.
func NewAPIServer(t testing.TB) *APIServer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	s := &APIServer{t: t, key: key, pods: map[string]bool{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /apis/authentication.k8s.io/v1/tokenreviews", s.review)
	s.Server = httptest.NewTLSServer(mux)
	t.Cleanup(s.Close)
	return s
}

// CA is the authority of the server's certificate, in PEM.
func (s *APIServer) CA() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
}

// Reviewer is a token of an account that may review tokens.
func (s *APIServer) Reviewer() string {
	return s.Token(Account{reviewerNamespace, "vault", "vault-uid", "vault-0"}, time.Hour, apiAudience)
}

// Token is a token of an account, whose pod runs from now on.
func (s *APIServer) Token(a Account, life time.Duration, audiences ...string) string {
	s.t.Helper()
	s.mu.Lock()
	s.pods[a.Pod] = true
	s.mu.Unlock()
	return sign(s.t, s.key, a, life, audiences...)
}

// sign signs a token of an account.
func sign(t testing.TB, key *ecdsa.PrivateKey, a Account, life time.Duration, audiences ...string) string {
	t.Helper()
	now := time.Now()
	c := claims{Claims: jwt.Claims{
		Issuer: Issuer, Subject: "system:serviceaccount:" + a.Namespace + ":" + a.Name, Expiry: jwt.NewNumericDate(now.Add(life)), IssuedAt: jwt.NewNumericDate(now), NotBefore: jwt.NewNumericDate(now.Add(-time.Minute)), ID: rand.Text(),
	}, Audiences: audiences}
	c.Kubernetes.Namespace, c.Kubernetes.Account, c.Kubernetes.Pod = a.Namespace, object{a.Name, a.UID}, object{a.Pod, a.Pod + "-uid"}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, nil)
	require.NoError(t, err)
	text, err := jwt.Signed(signer).Claims(c).Serialize()
	require.NoError(t, err)
	return text
}

// Delete deletes a pod, and so the tokens that are bound to it.
func (s *APIServer) Delete(pod string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.pods, pod)
}

// Down makes the server fail, or work again.
func (s *APIServer) Down(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
}

// Reviews is the number of reviews up to now.
func (s *APIServer) Reviews() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reviews
}

// tokenReview is the kind TokenReview.
type tokenReview struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Spec       struct {
		Token     string   `json:"token"`
		Audiences []string `json:"audiences"`
	} `json:"spec"`
	Status tokenStatus `json:"status"`
}

type tokenStatus struct {
	Authenticated bool     `json:"authenticated"`
	User          user     `json:"user"`
	Audiences     []string `json:"audiences,omitempty"`
	Error         string   `json:"error,omitempty"`
}

type user struct {
	Username string   `json:"username,omitempty"`
	UID      string   `json:"uid,omitempty"`
	Groups   []string `json:"groups,omitempty"`
}

// review authenticates the caller, checks the caller's right, and reviews the token:
// its signature, its times, its audiences, and whether its pod runs.
func (s *APIServer) review(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.reviews++
	down := s.down
	s.mu.Unlock()
	if down {
		http.Error(w, "the storage does not answer", http.StatusInternalServerError)
		return
	}
	bearer, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	asker, err := s.verify(bearer, []string{apiAudience})
	switch {
	case err != nil:
		http.Error(w, "Unauthorized", http.StatusUnauthorized)
		return
	case asker.Kubernetes.Namespace != reviewerNamespace:
		http.Error(w, "tokenreviews.authentication.k8s.io is forbidden", http.StatusForbidden)
		return
	}
	var review tokenReview
	if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	wanted := review.Spec.Audiences
	if len(wanted) == 0 {
		wanted = []string{apiAudience}
	}
	c, err := s.verify(review.Spec.Token, wanted)
	if err != nil {
		review.Status.Error = err.Error()
	} else {
		review.Status = tokenStatus{
			Authenticated: true,
			User:          user{Username: c.Subject, UID: c.Kubernetes.Account.UID, Groups: []string{"system:serviceaccounts", "system:authenticated"}},
			Audiences:     slices.DeleteFunc(slices.Clone(wanted), func(one string) bool { return !c.Audience.Contains(one) }),
		}
	}
	review.Spec.Token = ""
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	_ = json.NewEncoder(w).Encode(review)
}

// verify verifies a token that is for one of the audiences.
func (s *APIServer) verify(text string, audiences []string) (*claims, error) {
	parsed, err := jwt.ParseSigned(text, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		return nil, err
	}
	var c claims
	if err := parsed.Claims(s.key.Public(), &c); err != nil {
		return nil, err
	}
	c.Audience = c.Audiences
	if err := c.Validate(jwt.Expected{Issuer: Issuer, AnyAudience: audiences, Time: time.Now()}); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.pods[c.Kubernetes.Pod.Name] {
		return nil, errNoPod
	}
	return &c, nil
}
