package decisionlog_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/atenex/gatehouse/internal/decisionlog"
	gatehousev1 "github.com/atenex/gatehouse/proto/gatehouse/v1"
)

var update = flag.Bool("update", false, "write the golden files anew")

var at = time.Date(2031, 5, 17, 10, 0, 0, 250_000_000, time.UTC)

func full() *gatehousev1.Decision {
	stamp := func(d time.Duration) *timestamppb.Timestamp { return timestamppb.New(at.Add(d)) }
	return &gatehousev1.Decision{
		Outcome: gatehousev1.Outcome_OUTCOME_DENY, Reason: "role_insufficient",
		Route: "query", Mode: "strict", RequestId: "req-1",
		UserId:    "0a0a0a0a-1111-4222-8333-444444444444",
		CompanyId: "0b0b0b0b-1111-4222-8333-444444444444",
		Time:      stamp(0), DurationMs: 0.031, Method: "GET", Path: `/api/v1/query/"outcome":"OUTCOME_DENY"`, Status: 403,
		Roles: []string{"admin", "owner"}, TraceId: "4bf92f3577b34da6a3ce929d0e0e4736", Instance: "authz-0:7",
		Token: &gatehousev1.Token{
			Verified: true, Profile: "native", Algorithm: "HS256", KeyId: "k1", HeldAgainst: "k1",
			Subject: proto.String("0a0a0a0a-1111-4222-8333-444444444444"), Issuer: "https://issuer.example",
			Audience: []string{"gatehouse"}, HasAudience: true,
			IssuedAt: stamp(-time.Minute), ExpiresAt: stamp(time.Hour), SessionId: proto.String("[not a UUID]"),
			CompanyId: "0b0b0b0b-1111-4222-8333-444444444444",
		},
		Standing: &gatehousev1.Standing{
			Source: "memory", Exists: true, Active: true,
			Memberships: []*gatehousev1.Membership{{CompanyId: "0b0b0b0b-1111-4222-8333-444444444444", Role: "user"}},
			Session:     &gatehousev1.Session{Exists: true, NotAfter: stamp(time.Hour)},
		},
	}
}

func TestTheLinesAreThoseOfTheFile(t *testing.T) {
	var got []byte
	for _, d := range []*gatehousev1.Decision{
		full(),
		{Outcome: gatehousev1.Outcome_OUTCOME_ALLOW, Reason: "ok", Time: timestamppb.New(at.Truncate(time.Second)), Status: 200},
		{Outcome: gatehousev1.Outcome_OUTCOME_ERROR, Reason: "unavailable", Cause: "looking the user up: \x00 \u2028 <no>"},
		{Reason: "ok"},
		{},
	} {
		var err error
		if got, err = decisionlog.AppendLine(got, d); err != nil {
			t.Fatal(err)
		}
	}
	name := filepath.Join("testdata", "lines.jsonl")
	if *update {
		if err := os.WriteFile(name, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Error(diff)
	}
}

func TestALineIsReadBackAsItWasWritten(t *testing.T) {
	for _, d := range []*gatehousev1.Decision{full(), {}, {Outcome: gatehousev1.Outcome_OUTCOME_ALLOW}, {Outcome: 7}} {
		line, err := decisionlog.AppendLine(nil, d)
		if err != nil {
			t.Fatal(err)
		}
		if !json.Valid(line) || bytes.Count(line, []byte("\n")) != 1 {
			t.Errorf("not one line of JSON: %q", line)
		}
		if got, err := decisionlog.Parse(line); err != nil || !proto.Equal(got, d) {
			t.Errorf("%s is read as %v (%v)", line, got, err)
		}
	}
}

func TestWhatIsNoDecisionIsToldFromOne(t *testing.T) {
	cases := []struct {
		name, line string
		want       string // "decision", "other" or "broken"
	}{
		{"a line of the ordinary log", `{"time":"2031-05-17T10:00:00Z","level":"INFO","msg":"authorization check","decision":"deny"}`, "other"},
		{"no JSON", `panic: no`, "other"},
		{"half a line", `{"kind":"decision","outcome":"deny","rea`, "other"},
		{"another kind", `{"kind":"decisions"}`, "other"},
		{"an array", `["decision"]`, "other"},
		{"an empty decision", `{"kind":"decision"}`, "decision"},
		{"one of a later version", `{"kind":"decision","outcome":"deny","mood":{"x":[1]}}`, "decision"},
		{"the proto's own word", `{"kind":"decision","outcome":"OUTCOME_DENY"}`, "decision"},
		{"an outcome of a later version, which is none to this one", `{"kind":"decision","outcome":"maybe"}`, "decision"},
		{"a number in the place of a text", `{"kind":"decision","reason":7}`, "broken"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got := "decision"
			if _, err := decisionlog.Parse([]byte(c.line)); errors.Is(err, decisionlog.ErrNoDecision) {
				got = "other"
			} else if err != nil {
				got = "broken"
			}
			if got != c.want {
				t.Errorf("it is %s, want %s", got, c.want)
			}
		})
	}
}

func TestReadingGoesOnPastWhatIsNoDecision(t *testing.T) {
	log := strings.Join([]string{
		`{"kind":"decision","reason":"one"}`,
		`{"level":"INFO","msg":"ready"}`,
		``,
		`{"kind":"decision","reason":7}`,
		`{"kind":"decision","reason":"` + strings.Repeat("x", 2<<20) + `"}`,
		`{"kind":"decision","reason":"two"}`,
		`{"kind":"decision","reason":"three"}`, // without its end
	}, "\n")
	var got []string
	var wrong []int
	for entry, err := range decisionlog.Read(strings.NewReader(log)) {
		if err != nil {
			wrong = append(wrong, entry.Line)
			continue
		}
		got = append(got, entry.Decision.GetReason())
	}
	if diff := cmp.Diff([]string{"one", "two", "three"}, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]int{4}, wrong); diff != "" {
		t.Error(diff)
	}
	for _, err := range decisionlog.Read(strings.NewReader(log)) {
		if err != nil {
			t.Error(err)
		}
		break // which must not go on
	}
}

// Property: whatever texts a decision has, it is one line, and read back alike.
func FuzzALineIsReadBack(f *testing.F) {
	f.Add("/x", `"}`, int64(0), int32(401))
	f.Add("\u2028", "OUTCOME_DENY", int64(-62135596800), int32(-1))
	f.Fuzz(func(t *testing.T, path, reason string, seconds int64, status int32) {
		d := full()
		d.Path, d.Reason, d.Status, d.Time = path, reason, status, &timestamppb.Timestamp{Seconds: seconds}
		d.Outcome = gatehousev1.Outcome(status)
		line, err := decisionlog.AppendLine([]byte("before\n"), d)
		if err != nil {
			if string(line) != "before\n" {
				t.Fatalf("what cannot be written leaves %q", line)
			}
			return
		}
		line = bytes.TrimPrefix(line, []byte("before\n"))
		if bytes.IndexByte(line, '\n') != len(line)-1 {
			t.Fatalf("not one line: %q", line)
		}
		if got, err := decisionlog.Parse(line); err != nil || !proto.Equal(got, d) {
			t.Fatalf("%s is read as %v (%v)", line, got, err)
		}
	})
}
