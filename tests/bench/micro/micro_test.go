package micro

import "testing"

const said = `goos: linux
BenchmarkWarmCheck/one_user-2         	 1000000	       801.5 ns/op	       0 B/op	       0 allocs/op
BenchmarkWarmCheck/many_users-2       	  900000	       912 ns/op	       0 B/op	       0 allocs/op
BenchmarkWarmCheckup-2                	       1	      9999 ns/op
BenchmarkMillionUsers 	       1	 987654321 ns/op	       210.5 MB-counted	       230 MB-heap
PASS
ok  	github.com/atenex/gatehouse/authz	3.2s
`

func TestWorst(t *testing.T) {
	all, err := parse("./authz", []byte(said))
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, benchmark, unit string
		want                  float64
		found                 bool
	}{
		{"the slowest case of a benchmark", "WarmCheck", "ns/op", 912, true},
		{"no allocation is a figure", "WarmCheck", "allocs/op", 0, true},
		{"a unit of its own, on one P", "MillionUsers", "MB-heap", 230, true},
		{"a unit that it does not tell", "MillionUsers", "allocs/op", 0, false},
		{"a benchmark that is not there", "ColdTokenCheck", "ns/op", 0, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, found := Worst(all, tt.benchmark, tt.unit); got != tt.want || found != tt.found {
				t.Errorf("Worst(%s, %s) = %v, %v, want %v, %v", tt.benchmark, tt.unit, got, found, tt.want, tt.found)
			}
		})
	}
}

func TestParseRefusesWhatItDoesNotUnderstand(t *testing.T) {
	for _, text := range []string{"BenchmarkX-2 1 fast ns/op\n", "BenchmarkX-2 1 12\n"} {
		if all, err := parse("./x", []byte(text)); err == nil {
			t.Errorf("parse(%q) = %v, want an error", text, all)
		}
	}
}
