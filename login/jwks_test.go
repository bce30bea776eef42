package login_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/atenex/gatehouse/login"
)

type publishes string

func (p publishes) JWKS() []byte { return []byte(p) }

func TestThePublicKeysAreServedToEverybodyAndMayBeKept(t *testing.T) {
	const set = `{"keys":[{"crv":"Ed25519","kty":"OKP","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","kid":"<&>","alg":"EdDSA","use":"sig"}]}`
	g := newStage(t, store{}, func(o *login.Options) { o.Keys = publishes(set) })
	for _, test := range []struct {
		method, body, caching string
		status                int
	}{
		{http.MethodGet, set, "public, max-age=300", http.StatusOK},
		{http.MethodPost, `{"detail":"Method Not Allowed"}`, "no-store", http.StatusMethodNotAllowed},
	} {
		w := g.send(httptest.NewRequest(test.method, "/.well-known/jwks.json", nil))
		h := w.Result().Header
		if w.Code != test.status || w.Body.String() != test.body || h.Get("Cache-Control") != test.caching ||
			h.Get("Content-Type") != "application/json" || h.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %d %s %v", test.method, w.Code, w.Body, h)
		}
	}
}

func TestASharedSecretIsNotPublished(t *testing.T) {
	w := newStage(t, store{}).send(httptest.NewRequest(http.MethodGet, "/.well-known/jwks.json", nil))
	if w.Code != http.StatusOK || w.Body.String() != `{"keys":[]}` {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
