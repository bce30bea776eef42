package envoy_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	managerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"github.com/google/uuid"

	"github.com/atenex/gatehouse/envoy"
	"github.com/atenex/gatehouse/envoy/routes"
	"github.com/atenex/gatehouse/internal/starved"
)

// TestWithAuthorisationGoneNothingPasses takes filters out of the rendering, as
// a hand-made edit or a bad merge would.
func TestWithAuthorisationGoneNothingPasses(t *testing.T) {
	t.Parallel()
	without := func(names ...string) func(*bootstrapv3.Bootstrap) {
		return func(b *bootstrapv3.Bootstrap) {
			httpManager(t, b, func(m *managerv3.HttpConnectionManager) {
				m.HttpFilters = slices.DeleteFunc(m.HttpFilters, func(f *managerv3.HttpFilter) bool {
					return slices.Contains(names, f.GetName())
				})
				for _, v := range m.GetRouteConfig().GetVirtualHosts() {
					for _, name := range names {
						delete(v.TypedPerFilterConfig, name)
					}
					for _, r := range v.GetRoutes() {
						for _, name := range names {
							delete(r.TypedPerFilterConfig, name)
						}
					}
				}
			})
		}
	}
	for _, c := range []struct {
		name   string
		remove []string
	}{
		{"ext_authz is gone", []string{"envoy.filters.http.ext_authz"}},
		{"the fixed answers are gone", []string{"envoy.filters.http.fault"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			g := newGate(t, options{bootstrap: without(c.remove...)})
			for _, line := range []string{"GET /api/v1/ingest/x", "POST /api/v1/users/me/ensure-company", "GET /nowhere", "GET /api/v1/auth/register"} {
				for _, token := range []string{"allow", "empty", "none"} {
					got := g.raw(t, request(line, "Authorization: Bearer "+token, "Content-Length: 0"))
					if guarded := strings.Contains(line, "ingest") || strings.Contains(line, "ensure"); guarded && token == "allow" && c.name != "ext_authz is gone" {
						continue
					}
					if got.status < 400 {
						t.Errorf("%s with %q: %d %s", line, token, got.status, got.body)
					}
				}
			}
		})
	}
}

func TestAuthzKilledAndBack(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, addr string
	}{
		{"over TCP", "127.0.0.1:0"},
		{"over a socket in the file system", "unix://" + filepath.Join(t.TempDir(), "authz.sock")},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a := startAuthz(t, c.addr, t.Cleanup)
			g := newGate(t, options{authz: a})
			ask := func() answer { return g.do(t, "GET", "/api/v1/ingest/x", "Authorization: Bearer allow") }
			if got := ask(); got.status != 200 {
				t.Fatalf("before: %d %s", got.status, got.body)
			}
			a.stop()
			unhealthy := func() bool {
				res, err := http.Get(g.admin + "/clusters")
				if err != nil {
					t.Fatal(err)
				}
				defer res.Body.Close()
				text, _ := io.ReadAll(res.Body)
				return strings.Contains(string(text), "failed_active_hc")
			}
			// Both while Envoy still believes in it and after.
			checkReply(t, ask(), 503, unavailable)
			poll(t, "the health check to fail", unhealthy)
			checkReply(t, ask(), 503, unavailable)

			a.start(t)
			back := starved.Begin(t)
			poll(t, "authz to be used again", func() bool { return ask().status == 200 })
			if back.Took() > 2*time.Second {
				t.Errorf("it took %v", back.Passed())
			}
		})
	}
}

func TestGuessesAreLimitedPerClientOnLoginAlone(t *testing.T) {
	t.Parallel()
	g := newGate(t, options{settings: func(s *envoy.Settings) {
		s.LoginRate = routes.Rate{Requests: 1, Per: time.Minute, Burst: 3}
	}})
	var got []int
	for range 5 {
		// A forged address must not make a new client.
		a := g.do(t, "POST", "/api/v1/users/login", "X-Forwarded-For: "+uuid.NewString()[:1]+".1.1.1", "Origin: http://localhost:3000")
		got = append(got, a.status)
		if a.status == 429 {
			checkReply(t, a, 429, detail("Too many requests."))
			if ra := a.header.Values("Retry-After"); !slices.Equal(ra, []string{"60"}) {
				t.Errorf("Retry-After %q, want 60", ra)
			}
			if a.header.Get("Access-Control-Allow-Origin") == "" {
				t.Error("no CORS headers on the 429")
			}
		}
	}
	if want := []int{200, 200, 200, 429, 429}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	for _, line := range []string{"GET /health", "GET /api/v1/ingest/x", "POST /api/v1/users/me/ensure-company"} {
		if a := g.raw(t, request(line, "Authorization: Bearer allow", "Content-Length: 0")); a.status != 200 {
			t.Errorf("%s: %d", line, a.status)
		}
	}
	// Another client is another bucket.
	other := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}).DialContext}}
	res, err := other.Post("http://"+g.addr+"/api/v1/users/login", "application/json", nil)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Errorf("another client: %d", res.StatusCode)
	}
}

func TestTheAccessLogTellsTheDecisionAndNoSecret(t *testing.T) {
	t.Parallel()
	g := sharedGate(t)
	for _, c := range []struct {
		name, token string
		want        map[string]any
	}{
		{"an allow", "allow", map[string]any{"status": 200.0, "decision": "allow", "reason": "ok", "user": userID, "company": companyID, "upstream": "ingest"}},
		{"a denial", "forbidden", map[string]any{"status": 403.0, "decision": "deny", "reason": "test_reason", "flags": "UAEX"}},
		{"an error of authz", "unavailable", map[string]any{"status": 503.0, "decision": "error", "reason": "test_fault"}},
		{"no answer of authz", "rpc-error", map[string]any{"status": 503.0, "decision": nil, "flags": "UAEX"}},
		{"an allow without a mark", "empty", map[string]any{"status": 503.0, "decision": nil, "details": "rbac_access_denied_matched_policy[none]"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			id := uuid.NewString()
			g.do(t, "GET", "/api/v1/ingest/a/b?access_token=test-secret-query", "X-Request-ID: "+id, "Authorization: Bearer "+c.token,
				"Referer: https://app.example/?token=test-secret-referer", "Cookie: session=test-secret-cookie", "User-Agent: test-secret-agent")
			line := g.logged(t, id)
			c.want["method"], c.want["path"], c.want["route"], c.want["client"] = "GET", "/api/v1/ingest/a/b", "ingest", "127.0.0.1"
			for field, want := range c.want {
				if line[field] != want {
					t.Errorf("%s: %v, want %v", field, line[field], want)
				}
			}
			for _, field := range []string{"duration_ms", "bytes_in", "bytes_out", "time", "authz_us", "protocol"} {
				if line[field] == nil {
					t.Errorf("%s is missing in %v", field, line)
				}
			}
			if text := fmt.Sprint(line); strings.Contains(text, "test-secret") || strings.Contains(text, "Bearer") {
				t.Errorf("the log holds a secret: %s", text)
			}
		})
	}
}

func TestTheAdminInterfaceShowsFiguresAndNothingElse(t *testing.T) {
	t.Parallel()
	g := sharedGate(t)
	for path, want := range map[string]int{
		"/ready": 200, "/stats": 200, "/stats/prometheus": 200, "/clusters": 200, "/server_info": 200, "/listeners": 200,
		"/config_dump": 403, "/certs": 403, "/runtime": 403, "/logging": 403, "/memory": 403, "/": 403,
	} {
		res, err := http.Get(g.admin + path)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("%s: %d, want %d", path, res.StatusCode, want)
		}
	}
	for _, path := range []string{"/quitquitquit", "/runtime_modify?a=b", "/logging?level=trace", "/cpuprofiler?enable=y"} {
		res, err := (&http.Client{Timeout: patience}).Post(g.admin+path, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != http.StatusForbidden {
			t.Errorf("POST %s: %d, want 403", path, res.StatusCode)
		}
	}
}

func TestAnHTTPSUpstreamIsVerified(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certificate, caFile := selfSigned(t, dir, "localhost")
	up := startUpstream(t, "secure", t.Cleanup)
	serve := func(c tls.Certificate) string {
		l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{c}})
		if err != nil {
			t.Fatal(err)
		}
		s := &http.Server{Handler: http.HandlerFunc(up.serve), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
		go func() { _ = s.Serve(l) }()
		t.Cleanup(func() { s.Close() })
		_, port, _ := net.SplitHostPort(l.Addr().String())
		return port
	}
	good := serve(certificate)
	stranger, _ := selfSigned(t, t.TempDir(), "localhost")
	g := newGate(t, options{settings: func(s *envoy.Settings) {
		s.CAFile = caFile
		s.IngestURL = "https://localhost:" + good
		s.QueryURL = "https://127.0.0.1:" + good // not a name in the certificate
		s.AuthURL = "https://localhost:" + serve(stranger)
	}})
	if e := g.do(t, "GET", "/api/v1/ingest/x", "Authorization: Bearer allow").echo(t); e.Host != "localhost:"+good {
		t.Errorf("Host %q", e.Host)
	}
	checkReply(t, g.do(t, "GET", "/api/v1/query/x", "Authorization: Bearer allow"), 503, notConnected)
	checkReply(t, g.do(t, "GET", "/api/v1/auth/x"), 503, notConnected)
}

func selfSigned(t *testing.T, dir, name string) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, file
}

func TestValidateAsksTheBinary(t *testing.T) {
	t.Parallel()
	good, err := os.ReadFile("envoy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := envoy.Validate(t.Context(), binary(t), good); err != nil {
		t.Errorf("the rendering with defaults: %v", err)
	}
	bad := strings.Replace(string(good), "status_on_error:", "status_on_eror:", 1)
	if err := envoy.Validate(t.Context(), binary(t), []byte(bad)); err == nil || !strings.Contains(err.Error(), "status_on_eror") {
		t.Errorf("a misspelt field: %v, want its name", err)
	}
}
