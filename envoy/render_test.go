package envoy_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	authzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	managerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"

	"github.com/atenex/gatehouse/envoy"
	"github.com/atenex/gatehouse/envoy/routes"
)

func TestSettingsAreRefusedWithTheirReason(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		spoil func(*envoy.Settings)
		want  string
	}{
		{"a listen address without a port", func(s *envoy.Settings) { s.Listen = "127.0.0.1" }, "listen address"},
		{"a listen address that is a name", func(s *envoy.Settings) { s.Listen = "gate.example:80" }, "must be an IP address"},
		{"an admin address that is none", func(s *envoy.Settings) { s.AdminListen = "127.0.0.1:x" }, "admin listen address"},
		{"an authz address without a host", func(s *envoy.Settings) { s.Authz = ":9191" }, "authz address"},
		{"an authz port of 0", func(s *envoy.Settings) { s.Authz = "authz:0" }, "authz address"},
		{"a relative socket", func(s *envoy.Settings) { s.Authz = "unix://run/authz.sock" }, "authz address"},
		{"a socket path that the kernel cannot hold", func(s *envoy.Settings) { s.Authz = "unix:///" + strings.Repeat("x", 110) }, "107 bytes"},
		{"no ingest URL", func(s *envoy.Settings) { s.IngestURL = "" }, "ingest URL: missing"},
		{"no query URL", func(s *envoy.Settings) { s.QueryURL = "" }, "query URL: missing"},
		{"no login URL", func(s *envoy.Settings) { s.LoginURL = "" }, "login URL: missing"},
		{"a URL without a scheme", func(s *envoy.Settings) { s.QueryURL = "query:80" }, "query URL"},
		{"a URL with a query", func(s *envoy.Settings) { s.QueryURL = "http://query/?a=b" }, "no query or fragment"},
		{"a URL with a password", func(s *envoy.Settings) { s.AuthURL = "http://u:test-secret@auth" }, "no user or password"},
		{"a base path that is not normal", func(s *envoy.Settings) { s.IngestURL = "http://ingest/a/../b" }, "base path"},
		{"a base path with escapes", func(s *envoy.Settings) { s.IngestURL = "http://ingest/a%2fb" }, "base path"},
		{"every origin", func(s *envoy.Settings) { s.CORSOrigins = []string{"*"} }, "CORS"},
		{"the origin null", func(s *envoy.Settings) { s.CORSOrigins = []string{"null"} }, "CORS"},
		{"an origin with a path", func(s *envoy.Settings) { s.CORSOrigins = []string{"https://a.example/x"} }, "scheme, host and port alone"},
		{"an origin with a wildcard", func(s *envoy.Settings) { s.CORSOrigins = []string{"https://*.example"} }, "CORS"},
		{"ngrok without TLS", func(s *envoy.Settings) { s.NgrokURL = "http://abc.ngrok-free.app" }, "want https"},
		{"a rate without a period", func(s *envoy.Settings) { s.LoginRate = routes.Rate{Requests: 1, Burst: 1} }, "login rate"},
		{"no connections", func(s *envoy.Settings) { s.MaxConnections = 0 }, "max connections"},
		{"no time-out", func(s *envoy.Settings) { s.UpstreamTimeout = 0 }, "upstream time-out"},
		{"a negative time-out", func(s *envoy.Settings) { s.StreamIdleTimeout = -time.Second }, "stream idle time-out"},
		{"a server name with a line break", func(s *envoy.Settings) { s.ServerName = "a\nb" }, "server name"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := envoy.DefaultSettings()
			c.spoil(&s)
			err := s.Validate()
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "test-secret") {
				t.Errorf("%v, want %q in it", err, c.want)
			}
			table, _ := routes.Load("prefix")
			if _, err := envoy.Bootstrap(table, s); err == nil {
				t.Error("rendered all the same")
			}
		})
	}
	if err := (envoy.Settings{}).Validate(); err == nil || strings.Count(err.Error(), "\n") < 8 {
		t.Errorf("no settings at all: %v, want every fault at once", err)
	}
}

func TestTheSameInputGivesTheSameBytesAndReadsBack(t *testing.T) {
	t.Parallel()
	render := func() []byte {
		table, err := routes.Load("explicit")
		if err != nil {
			t.Fatal(err)
		}
		b, err := envoy.Bootstrap(table, envoy.DefaultSettings())
		if err != nil {
			t.Fatal(err)
		}
		text, err := envoy.YAML(b)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	first := render()
	for range 5 {
		if again := render(); !bytes.Equal(first, again) {
			t.Fatal("two renderings differ")
		}
	}
	back, err := envoy.ParseYAML(first)
	if err != nil {
		t.Fatal(err)
	}
	again, err := envoy.YAML(back)
	if err != nil || !bytes.Equal(first, again) {
		t.Errorf("what is read back is something else: %v", err)
	}
}

// What Envoy keeps for each check, in order to ask another replica, is for where
// there may be one.
func TestALostDecisionIsAskedOfAnotherReplicaWhereTheNameMayHaveOne(t *testing.T) {
	t.Parallel()
	table, err := routes.Load("prefix")
	if err != nil {
		t.Fatal(err)
	}
	for authz, want := range map[string]int{"authz.example.com:9191": 1, "localhost:9191": 1, "127.0.0.1:9191": 0, "[::1]:9191": 0, "unix:///run/authz": 0} {
		s := envoy.DefaultSettings()
		s.Authz = authz
		b, err := envoy.Bootstrap(table, s)
		if err != nil {
			t.Fatal(err)
		}
		asked := false
		httpManager(t, b, func(m *managerv3.HttpConnectionManager) {
			for _, f := range m.GetHttpFilters() {
				ask := new(authzv3.ExtAuthz)
				if f.GetTypedConfig().UnmarshalTo(ask) != nil {
					continue
				}
				asked = true
				retry := ask.GetGrpcService().GetRetryPolicy()
				if got := len(retry.GetRetryHostPredicate()); got != want || retry.GetNumRetries().GetValue() != 2 {
					t.Errorf("authz at %s: %d predicates, want %d; %d retries, want 2", authz, got, want, retry.GetNumRetries().GetValue())
				}
			}
		})
		if !asked {
			t.Errorf("authz at %s is never asked", authz)
		}
	}
}

// TestOnlyRoutesOfModeNoneSwitchAnythingOff reads the rendering the way Envoy
// does, route by route.
func TestOnlyRoutesOfModeNoneSwitchAnythingOff(t *testing.T) {
	t.Parallel()
	for _, name := range routes.Shipped() {
		table, err := routes.Load(name)
		if err != nil {
			t.Fatal(err)
		}
		var open []string
		for _, r := range table.Routes {
			if r.Answer == nil && r.Mode == routes.None {
				open = append(open, r.Name)
			}
		}
		s := envoy.DefaultSettings()
		s.AuthURL = "http://auth:80"
		b, err := envoy.Bootstrap(table, s)
		if err != nil {
			t.Fatal(err)
		}
		var routes []*routev3.Route
		httpManager(t, b, func(m *managerv3.HttpConnectionManager) {
			routes = m.GetRouteConfig().GetVirtualHosts()[0].GetRoutes()
		})
		var disabled []string
		for _, r := range routes {
			filters := r.GetTypedPerFilterConfig()
			if packed := filters["envoy.filters.http.ext_authz"]; packed != nil {
				per := new(authzv3.ExtAuthzPerRoute)
				if err := packed.UnmarshalTo(per); err != nil {
					t.Fatal(err)
				}
				if per.GetDisabled() {
					disabled = append(disabled, r.GetName())
				}
				if (filters["envoy.filters.http.rbac"] != nil) != per.GetDisabled() {
					t.Errorf("%s: route %s: authorisation and its mark are not off together", name, r.GetName())
				}
			}
			if r.GetDirectResponse() != nil || r.GetRedirect() != nil || r.GetRoute() == nil {
				t.Errorf("%s: route %s is no plain route: CORS would pass it over", name, r.GetName())
			}
		}
		slices.Sort(open)
		slices.Sort(disabled)
		if !slices.Equal(open, disabled) {
			t.Errorf("%s: authorisation is off on %q, want %q", name, disabled, open)
		}
	}
}
