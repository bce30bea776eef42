package authz_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/atenex/gatehouse/internal/token"
)

// Envoy ends what was let in by the header that an allow sets, which its router
// reads and takes away. Both paths of an answer write the same.
func TestAnAllowSaysHowLongItLasts(t *testing.T) {
	for _, c := range []struct {
		name   string
		max    time.Duration
		before time.Duration
		edits  []edit
		want   string // milliseconds; empty: nothing is said
	}{
		{"as long as it likes, where no bound is set", 0, time.Hour, nil, ""},
		{"the bound, with a token that lasts longer", time.Minute, time.Hour, nil, "60000"},
		{"what the token has left, where that is less", time.Hour, 90*time.Second + 250*time.Millisecond, nil, "90250"},
		{"a token that ends at once leaves time for an answer", time.Hour, time.Millisecond, nil, "10000"},
		{"but no more than the bound", 2 * time.Second, time.Millisecond, nil, "2000"},
		{"never 0, which is no bound to Envoy", time.Nanosecond, time.Hour, nil, "1"},
		{"a request without identity headers is bounded all the same", time.Minute, time.Hour, []edit{method("OPTIONS")}, "60000"},
		{"an open route is not", time.Minute, time.Hour, []edit{extension("auth_mode", "none")}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			ends := time.Unix(2_000_000_000, 0)
			o := options(t, token.Rules{}, saying(member()))
			o.StreamMax = c.max
			o.Clock = func() time.Time { return ends.Add(-c.before) }
			gates := bothPaths(t, o)
			raw := "Bearer " + jwt(plainHeader, `{"sub":"`+userText+`","company_id":"`+companyText+`","exp":`+strconv.FormatInt(ends.Unix(), 10)+`}`)
			a := alike(t, gates, wire(t, request(raw, c.edits...)))
			if got := reason(a); got != "ok" {
				t.Fatalf("reason %q, want ok", got)
			}
			got := ""
			for _, h := range a.GetOkResponse().GetHeaders() {
				if h.GetHeader().GetKey() == "x-envoy-upstream-stream-duration-ms" {
					got += h.GetHeader().GetValue()
				}
			}
			if got != c.want {
				t.Errorf("lasts %q ms, want %q", got, c.want)
			}
		})
	}
}
