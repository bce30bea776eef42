package login_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/propagation"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/atenex/gatehouse/login"
)

// recorded has the service's spans kept.
func recorded(kept *tracetest.SpanRecorder) set {
	provider := sdk.NewTracerProvider(sdk.WithSpanProcessor(kept))
	return func(o *login.Options) {
		o.Spans = login.Spans{Tracer: provider.Tracer("test"), Inherit: func(ctx context.Context, h http.Header) context.Context {
			return propagation.TraceContext{}.Extract(ctx, propagation.HeaderCarrier(h))
		}}
	}
}

func TestARequestIsASpanOfTheCallersTrace(t *testing.T) {
	t.Parallel()
	const trace, caller = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	kept := tracetest.NewSpanRecorder()
	g := newStage(t, holding(adaWith(argonOf(t, rightWords))), recorded(kept))
	cases := []struct {
		name    string
		request *http.Request
		want    []string // in the order in which they end
	}{
		{"a login, with what takes its time", credentials(adaEmail, rightWords), []string{"wait to hash", "verify password", "login login"}},
		{"one that is refused, with the same", credentials(adaEmail, wrongWords), []string{"wait to hash", "verify password", "login login"}},
		{"one of nobody, with the same", credentials("my-own-password@example.com", wrongWords), []string{"wait to hash", "verify password", "login login"}},
		{"a path that nobody serves is not named", httptest.NewRequest(http.MethodGet, "/my-own-password", nil), []string{"login unmatched"}},
	}
	for _, c := range cases {
		before := len(kept.Ended())
		c.request.Header.Set("Traceparent", "00-"+trace+"-"+caller+"-01")
		g.send(c.request)
		var got []string
		for _, s := range kept.Ended()[before:] {
			// The upgrade of the hash that follows a good login is a step as well.
			if s.Name() != "hash password" {
				got = append(got, s.Name())
			}
			if s.SpanContext().TraceID().String() != trace {
				t.Errorf("%s: %s is in another trace", c.name, s.Name())
			}
			text := fmt.Sprint(s.Name(), s.Attributes(), s.Events(), s.Status())
			for _, secret := range []string{adaEmail, rightWords, wrongWords, "my-own-password", "@"} {
				if strings.Contains(text, secret) {
					t.Errorf("%s: a span holds %q: %s", c.name, secret, text)
				}
			}
		}
		if strings.Join(got, ", ") != strings.Join(c.want, ", ") {
			t.Errorf("%s: spans %q, want %q", c.name, got, c.want)
		}
		root := kept.Ended()[len(kept.Ended())-1]
		if root.Parent().SpanID().String() != caller {
			t.Errorf("%s: the request is no child of its caller", c.name)
		}
	}
}

// TestSeriesAreThereBeforeTheyAreCounted walks the registry: whatever happens, no
// series appears that was not there from the start.
func TestSeriesAreThereBeforeTheyAreCounted(t *testing.T) {
	t.Parallel()
	g := newStage(t, holding(adaWith(argonOf(t, rightWords))))
	series := func() map[string]bool {
		families, err := g.registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]bool{}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				out[fmt.Sprint(f.GetName(), m.GetLabel())] = true
			}
		}
		return out
	}
	before := series()
	for _, path := range []string{
		"/api/v1/users/login", "/api/v1/users/logout", "/api/v1/auth/register", "/api/v1/users/me", "/api/v1/users/me/password",
		"/api/v1/users/me/ensure-company", "/api/v1/users/me/invitations/decline", "/.well-known/jwks.json", "/health", "/", "/nowhere",
		"/api/v1/companies/" + acme.String() + "/invitations", "/api/v1/companies/" + acme.String() + "/invitations/" + ada.String(),
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodDelete, http.MethodPut, "BREW"} {
			r := httptest.NewRequest(method, path, strings.NewReader(`{}`))
			r.Header.Set("Content-Type", "application/json")
			g.send(r)
		}
	}
	g.send(credentials(adaEmail, rightWords))
	g.send(credentials(adaEmail, wrongWords))
	for name := range series() {
		if !before[name] {
			t.Errorf("%s appeared", name)
		}
	}
}
