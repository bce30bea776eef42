package authzd

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/atenex/gatehouse/authz"
	"github.com/atenex/gatehouse/internal/config"
	"github.com/atenex/gatehouse/internal/token"
)

func TestTheRouteTableDecidesWhereTheSettingsSaySo(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "routes.yaml")
	if err := os.WriteFile(file, []byte(`
upstreams: { ingest: {} }
routes:
  - { name: files, prefix: /files, methods: [GET], mode: strict, upstream: ingest }
  - { name: health, path: /health, methods: [GET], mode: none, upstream: ingest }
  - { name: old, path: /old, answer: { status: 410, detail: Gone } }
`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		edge  config.Edge
		asked bool
		want  []string // names in metrics
	}{
		{"extensions alone", config.Edge{Routes: file, RouteSource: config.RouteSourceExtensions}, false, []string{"files"}},
		{"the zero value", config.Edge{Routes: file}, false, []string{"files"}},
		{"the path", config.Edge{Routes: file, RouteSource: config.RouteSourcePath}, true, []string{"files", "health"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var o authz.Options
			if err := AddRoutes(&o, &config.Settings{Edge: c.edge}); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(o.Routes, c.want) {
				t.Errorf("names %q, want %q", o.Routes, c.want)
			}
			if (o.Router != nil) != c.asked {
				t.Fatalf("a router: %v, want %v", o.Router != nil, c.asked)
			}
			if c.asked {
				if got, want := o.Router.Route("GET", "/health"), (authz.Route{Name: "health", Mode: "none"}); got != want {
					t.Errorf("%+v, want %+v", got, want)
				}
			}
		})
	}
	t.Run("a table with a fault is one of the settings", func(t *testing.T) {
		t.Parallel()
		err := AddRoutes(&authz.Options{}, &config.Settings{Edge: config.Edge{Routes: file + "x"}})
		if faults, ok := errors.AsType[config.Faults](err); !ok || faults[0].Setting != "GATEWAY_ROUTES" {
			t.Errorf("%v", err)
		}
	})
}

// What a mesh gets that says nothing of its routes, from the settings to the wire.
func TestAMeshThatNamesNoRoutesIsAnsweredByTheTable(t *testing.T) {
	t.Parallel()
	verifier, raw := signing(t)
	for _, c := range []struct {
		name, source, method, path string
		token                      bool
		want                       codes.Code
	}{
		{"an open route", config.RouteSourcePath, "GET", "/health", false, codes.OK},
		{"an open route by another way", config.RouteSourcePath, "GET", "/x/../health", false, codes.Unauthenticated},
		{"a preflight of an open route", config.RouteSourcePath, "OPTIONS", "/health", false, codes.Unauthenticated},
		{"an open route, by extensions alone", config.RouteSourceExtensions, "GET", "/health", false, codes.Unauthenticated},
		{"an initial route, by somebody without a company", config.RouteSourcePath, "GET", "/api/v1/users/me", true, codes.OK},
		{"a strict route, by somebody without a company", config.RouteSourcePath, "GET", "/api/v1/query/x", true, codes.PermissionDenied},
		{"no route, by somebody without a company", config.RouteSourcePath, "GET", "/any", true, codes.PermissionDenied},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := &config.Settings{
				Checks: config.Checks{User: config.CheckOff, Company: config.CheckOff},
				Edge:   config.Edge{Routes: config.RoutesPrefix, RouteSource: c.source},
			}
			o := Rules(s, verifier)
			o.Registerer, o.Logger = prometheus.NewRegistry(), slog.New(slog.DiscardHandler)
			if err := AddRoutes(&o, s); err != nil {
				t.Fatal(err)
			}
			http := &authv3.AttributeContext_HttpRequest{Method: c.method, Path: c.path}
			if c.token {
				http.Headers = map[string]string{"authorization": "Bearer " + raw}
			}
			out, err := serving(t, o).Check(t.Context(), &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
				Request: &authv3.AttributeContext_Request{Http: http},
			}})
			if err != nil || codes.Code(out.GetStatus().GetCode()) != c.want {
				t.Errorf("%v %v, want %s", out, err, c.want)
			}
		})
	}
}

// signing is a verifier and a token that it takes, of somebody without a company.
func signing(t *testing.T) (*token.Verifier, string) {
	t.Helper()
	const secret = "test-secret-made-of-obvious-words-for-routes"
	keys, err := token.Sources{Algorithm: "HS256", Secret: []byte(secret)}.KeySet()
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := token.NewVerifier(token.Rules{Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.RawURLEncoding
	input := b64.EncodeToString([]byte(`{"alg":"HS256"}`)) + "." +
		b64.EncodeToString(fmt.Appendf(nil, `{"sub":"0a0a0a0a-1111-4222-8333-444444444444","exp":%d}`, time.Now().Add(time.Hour).Unix()))
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(input))
	return verifier, input + "." + b64.EncodeToString(mac.Sum(nil))
}

// serving is a gate that is asked over gRPC.
func serving(t *testing.T, o authz.Options) authv3.AuthorizationClient {
	t.Helper()
	gate, err := authz.New(o)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(authz.ServerOptions()...)
	gate.Register(server)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return authv3.NewAuthorizationClient(conn)
}
