package envoy_test

import (
	"fmt"
	"slices"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	managerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
)

const unavailable = `{"detail":"Authorization is temporarily unavailable."}`

// hang is the token of who gets no answer from authz.
const hang = "hang"

func TestWhatAuthzAnswersDecidesAndNothingElseLetsThrough(t *testing.T) {
	t.Parallel()
	g := sharedGate(t)
	type want struct {
		status     int
		body       string // empty: an upstream's echo
		retryAfter string
	}
	for _, c := range []struct {
		name  string
		token string
		want  want
	}{
		{"an allow with our mark passes", "allow", want{status: 200}},
		{"an allow without identity passes", "allow-nobody", want{status: 200}},
		{"a denial passes unchanged", "forbidden", want{403, `{"detail":"User is no longer associated with the company in this token."}`, ""}},
		{"no token is authz's own denial", "", want{401, `{"detail":"Not authenticated"}`, ""}},
		{"authz cannot decide, and says so", "unavailable", want{503, unavailable, "1"}},
		{"authz broke, and says so", "internal", want{500, `{"detail":"An internal error occurred during token verification."}`, ""}},
		{"an empty answer, which ext_authz takes for an allow", "empty", want{503, unavailable, "1"}},
		{"an allow without a mark", "unmarked", want{503, unavailable, "1"}},
		{"an allow that is marked as a denial", "marked-deny", want{503, unavailable, "1"}},
		{"a denial with status OK, which ext_authz takes for an allow", "denied-with-status-ok", want{503, unavailable, "1"}},
		{"a header that authz may not set", "foreign-header", want{503, unavailable, "1"}},
		{"another path", "foreign-path", want{503, unavailable, "1"}},
		{"a line break in a value", "line-break", want{503, unavailable, "1"}},
		{"a refusal by something that is not our authz", "stranger", want{403, `{"by":"something else"}`, ""}},
		{"an error of something that is not our authz", "stranger-error", want{503, unavailable, "1"}},
		{"a gRPC error", "rpc-error", want{503, unavailable, "1"}},
		{"a gRPC Unauthenticated", "rpc-unauthenticated", want{503, unavailable, "1"}},
		{"no answer in time", hang, want{503, unavailable, "1"}},
		{"a connection that is cut", "drop", want{503, unavailable, "1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := g
			if c.token == hang {
				g = newGate(t, options{inTime: true})
			}
			var headers []string
			if c.token != "" {
				headers = append(headers, "Authorization: Bearer "+c.token)
			}
			for _, r := range []struct{ method, path string }{
				{"GET", "/api/v1/ingest/x"},
				{"POST", "/api/v1/users/me/ensure-company"},
				{"POST", "/api/v1/users/me/password"},
			} {
				got := g.do(t, r.method, r.path, headers...)
				if got.status != c.want.status {
					t.Fatalf("%s: status %d, body %s; want %d", r.path, got.status, got.body, c.want.status)
				}
				if c.want.status == 200 {
					got.echo(t)
					continue
				}
				if got.body != c.want.body {
					t.Errorf("%s: body %s, want %s", r.path, got.body, c.want.body)
				}
				if ct := got.header.Values("Content-Type"); !slices.Equal(ct, []string{"application/json"}) {
					t.Errorf("%s: content type %q", r.path, ct)
				}
				if ra := got.header.Get("Retry-After"); ra != c.want.retryAfter {
					t.Errorf("%s: Retry-After %q, want %q", r.path, ra, c.want.retryAfter)
				}
				if got.header.Get("X-Request-Id") == "" || got.header.Get("X-Process-Time") == "" {
					t.Errorf("%s: no request id or process time in %v", r.path, got.header)
				}
			}
		})
	}
}

// httpManager unpacks the connection manager of a bootstrap, lets f change it
// and packs it again.
func httpManager(t *testing.T, b *bootstrapv3.Bootstrap, f func(*managerv3.HttpConnectionManager)) {
	t.Helper()
	packed := b.GetStaticResources().GetListeners()[0].GetFilterChains()[0].GetFilters()[0].GetTypedConfig()
	m := new(managerv3.HttpConnectionManager)
	if err := packed.UnmarshalTo(m); err != nil {
		t.Fatal(err)
	}
	f(m)
	if err := packed.MarshalFrom(m); err != nil {
		t.Fatal(err)
	}
}

// Envoy refuses an answer of authz whose headers would be too many, and knows no
// other word for it than for one that is forged.
func TestARequestThatHasNoRoomForTheIdentityIsTooLarge(t *testing.T) {
	t.Parallel()
	g := sharedGate(t)
	tooLarge := 0
	for n := 80; n <= 100; n++ {
		headers := []string{"Authorization: Bearer allow"}
		for i := range n {
			headers = append(headers, fmt.Sprintf("X-Filler-%d: x", i))
		}
		got := g.do(t, "GET", "/api/v1/ingest/x", headers...)
		switch {
		case got.status == 200 && tooLarge == 0:
		case got.status == 431 && got.body == `{"detail":"Request Header Fields Too Large"}`:
			tooLarge++
		default:
			t.Errorf("%d headers of the client's: status %d, body %s", n, got.status, got.body)
		}
	}
	if tooLarge == 0 || tooLarge == 21 {
		t.Errorf("%d of 21 were too large, want some that are and some that are not", tooLarge)
	}
}
