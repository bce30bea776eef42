package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/atenex/gatehouse/tests/bench/load"
	"github.com/atenex/gatehouse/tests/bench/report"
	"github.com/atenex/gatehouse/tests/bench/rig"
)

func TestPlan(t *testing.T) {
	tests := []struct {
		name string
		args string
		want string // in the error; "": a good plan
	}{
		{"the defaults are a plan", "", ""},
		{"so is a quick one", "-quick", ""},
		{"some parts", "-only micro,revocation", ""},
		{"a part that does not exist", "-only everything", `"everything" is none of`},
		{"rounds without an end", "-round 2h", "-round 2h0m0s: want"},
		{"no rounds", "-rounds 0", "-rounds 0: want 1 to"},
		{"all faults at once", "-rate 0 -connections 0", "-connections 0"},
		{"words", "quickly", `unknown argument "quickly"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := readPlan(strings.Fields(tt.args), &bytes.Buffer{})
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("err = %v, want %q", err, tt.want)
			}
		})
	}
}

func TestQuickLeavesAloneWhatWasAskedFor(t *testing.T) {
	p, err := readPlan(strings.Fields("-quick -out somewhere -round 3s"), &bytes.Buffer{})
	if err != nil {
		t.Fatal(err)
	}
	if p.out != "somewhere" || p.round != 3*time.Second || p.revocations >= 500 {
		t.Errorf("out %q, round %v, %d revocations; want what was asked for, and few revocations", p.out, p.round, p.revocations)
	}
}

func TestWrongUseMeasuresNothing(t *testing.T) {
	var out bytes.Buffer
	if code := run(context.Background(), []string{"-rounds", "0"}, nil, &out, &out); code != misuse {
		t.Errorf("exit code %d, want %d", code, misuse)
	}
}

func TestAMissedBarIsTheExitCode(t *testing.T) {
	r := &report.Report{Bars: []report.Bar{
		{What: "met", Limit: 1, Unit: "×", Measured: true, Value: 1},
		{What: "not met", Limit: 1, Unit: "×", Measured: true, Value: 2},
	}}
	var said bytes.Buffer
	if code := verdict(plan{}, r, &said); code != failed || said.String() != "bar missed: not met: want ≤ 1.00 ×, 2.00 ×\n" {
		t.Errorf("exit code %d and %q", code, said.String())
	}
	if code := verdict(plan{reportOnly: true}, r, &said); code != fine {
		t.Errorf("exit code %d of a mere report, want %d", code, fine)
	}
	r.Bars = r.Bars[:1]
	if code := verdict(plan{}, r, &said); code != fine {
		t.Errorf("exit code %d with every bar met, want %d", code, fine)
	}
}

// A cold user that is met twice is a warm one, and the figure a lie.
func TestNoColdUserIsDealtTwice(t *testing.T) {
	const users = 1000
	many := &load.Credentials{}
	for i := range users {
		id := "00000000-0000-4000-8000-" + strings.Repeat("0", 8) + string([]byte{'0', byte('0' + i/100), byte('0' + i/10%10), byte('0' + i%10)})
		if err := many.Add(load.Credential{Token: id, User: id}); err != nil {
			t.Fatal(err)
		}
	}
	a := &arena{
		plan:   plan{perSecond: 100, paced: 900 * time.Millisecond, warmUp: 100 * time.Millisecond},
		people: &rig.People{Many: many},
	}
	d := a.deal(matter{cold: true}, 3, 2)
	seen := map[string]int{}
	drain := func(r *load.Requests) (n int) {
		for {
			_, user, ok := r.Next(nil)
			if !ok {
				return n
			}
			seen[string(user)]++
			n++
		}
	}
	for i := range 3 {
		if n := drain(d.closed(i)()); n != 266 { // (1000 - 2 × 100) / 3
			t.Errorf("pair %d of the closed loop has %d users, want 266", i, n)
		}
	}
	for i := range 2 {
		if n := drain(d.paced(i)()); n != 100 {
			t.Errorf("pair %d at the fixed rate has %d users, want 100", i, n)
		}
	}
	for user, times := range seen {
		if times > 1 {
			t.Fatalf("user %s is dealt %d times", user, times)
		}
	}
	// Both of a pair have the same.
	first := d.closed(0)
	if _, one, _ := first().Next(nil); string(one) == "" {
		t.Error("no user")
	} else if _, other, _ := first().Next(nil); string(one) != string(other) {
		t.Errorf("one of a pair begins with %s, the other with %s", one, other)
	}
}
