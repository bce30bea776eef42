package envoy_test

import (
	"errors"
	"testing"

	"github.com/atenex/gatehouse/envoy"
	"github.com/atenex/gatehouse/envoy/routes"
)

// FuzzATableThatIsReadIsOneThatRenders: what passes the reader must not fail, or
// stop, the renderer; and what does not, says so as Faults.
func FuzzATableThatIsReadIsOneThatRenders(f *testing.F) {
	f.Add([]byte(`{upstreams: {x: {url: "https://x", headers: {forward: [a, a-b, a-bc]}, tls: {server_name: y}, retries: 1}}, routes: [{name: a, template: "/{uuid}", methods: [GET], mode: none, upstream: x, max_body: 1KiB, rate_limit: 1/s}]}`))
	f.Add([]byte("upstreams: &a {ingest: *a}\nroutes: [*a, &b {name: c, path: /, answer: {status: 404, detail: \"\\xe9%\\0\"}}]"))
	f.Fuzz(func(t *testing.T, text []byte) {
		table, err := routes.Parse(text)
		if err != nil {
			if faults, ok := errors.AsType[routes.Faults](err); !ok || len(faults) == 0 {
				t.Errorf("%T: %v", err, err)
			}
			return
		}
		if _, err := envoy.Bootstrap(table, envoy.DefaultSettings()); err != nil {
			t.Error(err)
		}
	})
}
