package login_test

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/atenex/gatehouse/login"
)

func TestTheLogLineOfARequest(t *testing.T) {
	good := adaWith(argonOf(t, rightWords))
	from := func(r *http.Request) *http.Request {
		r.Header.Set("X-Request-ID", "some-id")
		r.RemoteAddr = "192.0.2.7:4711"
		return r
	}
	tests := []struct {
		name    string
		request *http.Request
		want    map[string]any
	}{
		{
			"a good login names the user and the company", from(credentials(adaEmail, rightWords)),
			map[string]any{
				"level": "INFO", "route": "login", "method": "POST", "status": 200.0, "result": "success",
				"user_id": ada.String(), "company_id": acme.String(),
			},
		},
		{
			"a wrong password names the user, if there is one", from(credentials(adaEmail, wrongWords)),
			map[string]any{
				"level": "INFO", "route": "login", "method": "POST", "status": 401.0, "result": "bad_credentials",
				"user_id": ada.String(), "error": "Incorrect email or password",
			},
		},
		{
			"an unknown address is not named: people type passwords there", from(credentials("my-own-password@example.com", wrongWords)),
			map[string]any{
				"level": "INFO", "route": "login", "method": "POST", "status": 401.0, "result": "bad_credentials",
				"error": "Incorrect email or password",
			},
		},
		{
			"a path that does not exist is not named", from(httptest.NewRequest(http.MethodGet, "/wp-admin", nil)),
			map[string]any{"level": "INFO", "route": "unmatched", "method": "GET", "status": 404.0, "result": "not_found", "error": "Not Found"},
		},
		{
			"a method that nobody knows is not named", from(httptest.NewRequest("BREW", "/", nil)),
			map[string]any{"level": "INFO", "route": "root", "method": "other", "status": 405.0, "result": "method", "error": "Method Not Allowed"},
		},
		{
			"good health is worth no more than a debug line", from(httptest.NewRequest(http.MethodGet, "/health", nil)),
			map[string]any{"level": "DEBUG", "route": "health", "method": "GET", "status": 200.0, "result": "healthy"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newStage(t, holding(good))
				w := g.send(tt.request)
				lines := g.lines()
				if len(lines) != 1 {
					t.Fatalf("%d lines: %s", len(lines), g.log)
				}
				if _, ok := lines[0]["duration_ms"].(float64); !ok {
					t.Errorf("duration_ms is %v", lines[0]["duration_ms"])
				}
				tt.want["msg"], tt.want["request_id"], tt.want["client"] = "request", "some-id", "192.0.2.7"
				ignored := cmpopts.IgnoreMapEntries(func(k string, _ any) bool { return k == "time" || k == "duration_ms" })
				if diff := cmp.Diff(tt.want, lines[0], ignored); diff != "" {
					t.Errorf("line (-want +got):\n%s", diff)
				}
				for _, secret := range []string{rightWords, wrongWords, "my-own-password", "wp-admin", good.PasswordHash} {
					if strings.Contains(g.log.String(), secret) {
						t.Errorf("the log holds %q: %s", secret, g.log)
					}
				}
				if w.Code == http.StatusOK && tt.want["route"] == "login" {
					if raw, _ := decodeBody(t, w)["access_token"].(string); raw == "" || strings.Contains(g.log.String(), raw) {
						t.Errorf("the log holds the token: %s", g.log)
					}
				}
			})
		})
	}
}

func TestRequestIDs(t *testing.T) {
	tests := []struct {
		name string
		sent string
		want string // empty: one of our own
	}{
		{"Envoy's is taken", "f3c9b1d2-0000-4000-8000-1234567890ab", "f3c9b1d2-0000-4000-8000-1234567890ab"},
		{"a long one is cut", strings.Repeat("x", 65), strings.Repeat("x", 64)},
		{"what is not printable is dropped", "a\tb c\u00e9\x7fd", "abcd"},
		{"none is made up", "", ""},
		{"nothing printable is as good as none", " \t", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := newStage(t, store{})
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.Header.Set("X-Request-ID", tt.sent)
			g.send(r)
			got, _ := g.lines()[0]["request_id"].(string)
			if tt.want != "" && got != tt.want || len(got) < 4 {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestWhereARequestCameFrom(t *testing.T) {
	trusted := []netip.Prefix{
		netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128"),
		netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8"),
	}
	tests := []struct {
		name  string
		peer  string
		hops  []string // X-Forwarded-For, one element a header line
		proxy []netip.Prefix
		want  string
	}{
		{"the peer, where nothing is said", "127.0.0.1:1", nil, trusted, "127.0.0.1"},
		{"an untrusted peer's word counts for nothing", "192.0.2.1:1", []string{"198.51.100.1"}, trusted, "192.0.2.1"},
		{"nobody's word counts where nobody is trusted", "127.0.0.1:1", []string{"198.51.100.1"}, nil, "127.0.0.1"},
		{"a trusted peer names the client", "127.0.0.1:1", []string{"198.51.100.1"}, trusted, "198.51.100.1"},
		{"what a client wrote itself stands to the left", "127.0.0.1:1", []string{"203.0.113.9, 198.51.100.1"}, trusted, "198.51.100.1"},
		{"trusted hops are passed over from the right", "127.0.0.1:1", []string{"203.0.113.9, 198.51.100.1, 10.1.2.3,10.0.0.1"}, trusted, "198.51.100.1"},
		{"all trusted: the leftmost", "127.0.0.1:1", []string{"10.9.9.9, 10.1.2.3"}, trusted, "10.9.9.9"},
		{"header lines are one list", "127.0.0.1:1", []string{"203.0.113.9", "198.51.100.1", "10.0.0.1"}, trusted, "198.51.100.1"},
		{"a hop with a port", "127.0.0.1:1", []string{"198.51.100.1:4711"}, trusted, "198.51.100.1"},
		{"IPv6", "[::1]:1", []string{"2001:db8::7, fd00::1"}, trusted, "2001:db8::7"},
		{"IPv6 with a port", "[::1]:1", []string{"[2001:db8::7]:4711"}, trusted, "2001:db8::7"},
		{"IPv4 over IPv6 is IPv4", "[::ffff:10.0.0.1]:1", []string{"::ffff:198.51.100.1"}, trusted, "198.51.100.1"},
		{"a zone is no part of an address", "[::1%lo]:1", []string{"2001:db8::7%eth0"}, trusted, "2001:db8::7"},
		{"a hop that is no address: who wrote it is the last that is known", "127.0.0.1:1", []string{"198.51.100.1, unknown, 10.0.0.1"}, trusted, "10.0.0.1"},
		{"an empty hop", "127.0.0.1:1", []string{"198.51.100.1,"}, trusted, "127.0.0.1"},
		{"a Unix socket has no address", "@", []string{"198.51.100.1"}, trusted, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := newStage(t, store{}, func(o *login.Options) { o.TrustedProxies = tt.proxy })
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.RemoteAddr = tt.peer
			r.Header["X-Forwarded-For"] = tt.hops
			g.send(r)
			if got := g.lines()[0]["client"]; got != tt.want {
				t.Errorf("got %v, want %q", got, tt.want)
			}
		})
	}
}

func TestMetricsStartAtZeroAndDoNotGrowWithWhatIsAsked(t *testing.T) {
	g := newStage(t, store{})
	series := func() (n int) {
		families, err := g.registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			n += len(f.GetMetric())
			if f.GetName() == "gatehouse_login_attempts_total" && len(f.GetMetric()) != 6 {
				t.Errorf("%d results of attempts, want all 6 from the start", len(f.GetMetric()))
			}
		}
		return n
	}
	g.send(httptest.NewRequest(http.MethodGet, "/a", nil))
	g.send(httptest.NewRequest("BREW", "/", nil))
	before := series()
	for _, path := range []string{"/b", "/c", "/d/e"} {
		g.send(httptest.NewRequest("X-"+path[1:2], path, nil))
		g.send(httptest.NewRequest("Y-"+path[1:2], "/", nil))
	}
	if after := series(); after != before {
		t.Errorf("%d series became %d", before, after)
	}
}
