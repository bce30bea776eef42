package revocation

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestJudge(t *testing.T) {
	start := time.Unix(1_800_000_000, 0)
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	probe := func(replica, sent, arrived, status int) Probe {
		return Probe{Replica: replica, Sent: at(sent), Arrived: at(arrived), Status: status}
	}
	const ms = time.Millisecond
	// The change is issued at 10 and acknowledged at 12; the bound is 100 ms.
	tests := []struct {
		name   string
		probes []Probe
		want   []time.Duration // nil: a broken promise
		fault  string
	}{
		{
			name:   "a lag is from the acknowledgement to the first refusal's arrival",
			probes: []Probe{probe(0, 0, 2, 200), probe(0, 13, 14, 200), probe(0, 15, 17, 401), probe(0, 18, 19, 401), probe(1, 20, 21, 401)},
			want:   []time.Duration{5 * ms, 9 * ms},
		},
		{
			name:   "a refusal that overtakes the acknowledgement has no lag",
			probes: []Probe{probe(0, 10, 11, 401), probe(1, 13, 14, 401)},
			want:   []time.Duration{0, 2 * ms},
		},
		{
			name:   "an allow that was sent before the commit may arrive after it",
			probes: []Probe{probe(0, 11, 90, 200), probe(0, 91, 92, 401), probe(1, 13, 14, 401)},
			want:   []time.Duration{80 * ms, 2 * ms},
		},
		{
			name:   "an allow that was under way at the first refusal is none after it",
			probes: []Probe{probe(0, 13, 20, 200), probe(0, 14, 15, 401), probe(1, 13, 14, 401)},
			want:   []time.Duration{3 * ms, 2 * ms},
		},
		{
			name:   "an allow after the same replica's first refusal",
			probes: []Probe{probe(0, 13, 14, 401), probe(1, 13, 14, 401), probe(0, 15, 16, 200)},
			fault:  "replica 0 let a request in that was sent 1ms after its first refusal",
		},
		{
			name:   "the order in which probes are told does not matter",
			probes: []Probe{probe(0, 15, 16, 200), probe(0, 13, 14, 401), probe(1, 13, 14, 401)},
			fault:  "after its first refusal",
		},
		{
			name:   "an allow after another replica's refusal is that one's lag",
			probes: []Probe{probe(0, 13, 14, 401), probe(1, 15, 16, 200), probe(1, 17, 18, 401)},
			want:   []time.Duration{2 * ms, 6 * ms},
		},
		{
			name:   "an allow past the bound",
			probes: []Probe{probe(0, 13, 14, 401), probe(1, 113, 114, 200), probe(1, 115, 116, 401)},
			fault:  "beyond the bound",
		},
		{
			name:   "a refusal before the change",
			probes: []Probe{probe(0, 5, 6, 401), probe(1, 13, 14, 401)},
			fault:  "refused 4ms before the change",
		},
		{
			name:   "a replica that never refuses",
			probes: []Probe{probe(0, 13, 14, 401), probe(1, 13, 14, 200)},
			fault:  "replica 1 never refused",
		},
		{
			name:   "a replica that was never asked",
			probes: []Probe{probe(0, 13, 14, 401)},
			fault:  "replica 1 never refused",
		},
		{
			name:   "an outage is no refusal",
			probes: []Probe{probe(0, 13, 14, 503), probe(1, 13, 14, 401)},
			fault:  "answered 503",
		},
		{
			name:   "nor is a refusal for another reason",
			probes: []Probe{probe(0, 13, 14, 403), probe(1, 13, 14, 401)},
			fault:  "answered 403",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Judge(tt.probes, 2, Change{Issued: at(10), Acknowledged: at(12), Refusal: 401}, 100*ms)
			if tt.want == nil {
				if err == nil || !strings.Contains(err.Error(), tt.fault) {
					t.Errorf("err = %v, want %q in it", err, tt.fault)
				}
				return
			}
			if err != nil || !slices.Equal(got.Lags, tt.want) || got.Last != slices.Max(tt.want) {
				t.Errorf("Judge = %+v, %v, want %v", got, err, tt.want)
			}
		})
	}
}
