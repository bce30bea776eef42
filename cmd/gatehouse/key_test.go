package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// The key of RFC 8037 appendix A.2.
const publishedSet = `{"keys":[{"kty":"OKP","crv":"Ed25519","alg":"EdDSA","kid":"theirs","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`

func TestTheKeysOfAnotherIssuerAreAskedFor(t *testing.T) {
	status := http.StatusOK
	issuer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = w.Write([]byte(publishedSet))
	}))
	defer issuer.Close()
	const secret = "test-secret-of-the-command-line-sessions"
	command := func(args ...string) (code int, stdout, stderr string) {
		t.Helper()
		var out, errs bytes.Buffer
		environ := []string{"GATEWAY_JWT_SECRET=" + secret, "GATEWAY_JWT_JWKS_URL=" + issuer.URL + "/jwks"}
		code = run(t.Context(), args, environ, strings.NewReader(""), &out, &errs)
		return code, out.String(), errs.String()
	}
	t.Chdir(t.TempDir())
	code, stdout, stderr := command("key", "list")
	if code != exitFine || !strings.Contains(stdout, "theirs  ") || !strings.Contains(stdout, "EdDSA  OKP  verify  fetched") || !strings.Contains(stdout, "HS256  oct  sign    secret") {
		t.Errorf("code %d\n%s%s", code, stdout, stderr)
	}
	if strings.Contains(stdout, secret) {
		t.Error("the secret is listed")
	}
	if _, stdout, _ = command("doctor"); !strings.Contains(stdout, "of another issuer, at "+issuer.URL+"/jwks: 1") {
		t.Errorf("doctor: %s", stdout)
	}
	status = http.StatusTeapot
	if code, _, stderr = command("key", "list"); code != exitFailed || stderr != "gatehouse: fetching the key set of GATEWAY_JWT_JWKS_URL: it answers 418\n" {
		t.Errorf("code %d, %q", code, stderr)
	}
}
