package authz_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/atenex/gatehouse/authz"
	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/problem"
	"github.com/atenex/gatehouse/internal/token"
	gatehousev1 "github.com/atenex/gatehouse/proto/gatehouse/v1"
)

// recorder keeps what it is given.
type recorder struct {
	wants    func(gatehousev1.Outcome) bool // nil: everything
	recorded []*gatehousev1.Decision
}

func (r *recorder) Wants(o gatehousev1.Outcome) bool { return r.wants == nil || r.wants(o) }

func (r *recorder) Record(d *gatehousev1.Decision) { r.recorded = append(r.recorded, d) }

// questionOf puts a check as an operator would.
func questionOf(in *authv3.CheckRequest) authz.Question {
	http, extensions := in.GetAttributes().GetRequest().GetHttp(), in.GetAttributes().GetContextExtensions()
	q := authz.Question{
		Method: http.GetMethod(), Path: http.GetPath(),
		Mode: extensions["auth_mode"], Route: extensions["route"], Roles: extensions["roles"],
	}
	for name, value := range http.GetHeaders() {
		switch {
		case strings.EqualFold(name, "authorization"):
			q.Authorization = append(q.Authorization, value)
		case strings.EqualFold(name, "x-request-id"):
			q.RequestID = value
		}
	}
	for _, h := range http.GetHeaderMap().GetHeaders() {
		switch {
		case strings.EqualFold(h.GetKey(), "authorization"):
			q.Authorization = append(q.Authorization, string(h.GetRawValue()))
		case strings.EqualFold(h.GetKey(), "x-request-id"):
			q.RequestID = string(h.GetRawValue())
		}
	}
	return q
}

func explain(t testing.TB, o authz.Options, in *authv3.CheckRequest) authz.Explanation {
	t.Helper()
	e, err := newGate(t, o).Explain(t.Context(), questionOf(in), now)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// The files are what an operator reads: each row of the contract, explained.
func TestEveryRowOfTheContractIsExplained(t *testing.T) {
	for _, c := range table {
		t.Run(c.name, func(t *testing.T) {
			_, asked, o := c.make(t)
			e := explain(t, o, asked)
			if got := ends(t, e); got != c.want {
				t.Errorf("the steps end in %q, want %q", got, c.want)
			}
			var b strings.Builder
			for _, s := range e.Steps {
				fmt.Fprintf(&b, "%-15s %-11s %s\n", s.Name, s.Status, s.Checked)
			}
			fmt.Fprintf(&b, "\nallowed %t, code %s, status %d, body %s\n", e.Effects.Allowed, e.Effects.Code, e.Effects.Status, e.Effects.Body)
			fmt.Fprintf(&b, "set %q\nremoved %q\nemail %q\nmetadata %q\n", e.Effects.Set, e.Effects.Removed, e.Effects.Email, e.Effects.Metadata)
			goldenText(t, filepath.Join("explain", c.name+".txt"), b.String())
		})
	}
}

// ends is the reason of the first step that failed; it holds the steps to what is
// promised of them.
func ends(t testing.TB, e authz.Explanation) string {
	t.Helper()
	want := []string{""}
	for _, p := range problem.Decisions() {
		want = append(want, p.Reason)
	}
	var got []string
	end := "ok"
	for _, s := range e.Steps {
		got = append(got, s.Reason)
		if s.Status == authz.Failed && end == "ok" {
			end = s.Reason
		} else if s.Status == authz.Failed {
			t.Errorf("after %q fails %q too", end, s.Reason)
		}
		if (s.Checked == "") != (s.Status == authz.NotReached) || strings.ContainsFunc(s.Checked, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			t.Errorf("%s %s says %q", s.Name, s.Status, s.Checked)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("the steps are %q, want %q", got, want)
	}
	return end
}

func goldenText(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, []byte(got)) {
		t.Errorf("%s differs from what is said now (-update writes it anew):\n%s", path, got)
	}
}

// effectsOf reads an answer the long way round.
func effectsOf(out *authv3.CheckResponse) (set map[string]string, removed []string, status int, body string) {
	set = map[string]string{}
	status = 200
	for _, h := range out.GetOkResponse().GetHeaders() {
		set[h.GetHeader().GetKey()] = h.GetHeader().GetValue()
	}
	for _, no := range []*authv3.DeniedHttpResponse{out.GetDeniedResponse(), out.GetErrorResponse()} {
		if no == nil {
			continue
		}
		for _, h := range no.GetHeaders() {
			set[h.GetHeader().GetKey()] = h.GetHeader().GetValue()
		}
		status, body = int(no.GetStatus().GetCode()), no.GetBody()
	}
	if _, ok := set["x-user-email"]; ok {
		set["x-user-email"] = authz.EmailSet
	}
	return set, out.GetOkResponse().GetHeadersToRemove(), status, body
}

// told is everything of an explanation and a record that can be read by someone.
func told(t testing.TB, e authz.Explanation) string {
	t.Helper()
	return fmt.Sprintf("%v %v %v", e.Steps, e.Effects, e.Decision)
}

// Property: whatever the request, the token and the user, an explanation ends as
// Check answers, with the same effects; its first failed step is the decision's
// reason; what is recorded is judged alike when it is judged again; and neither
// holds the token, its signature or an email.
func FuzzAnExplanationEndsAsTheAnswerDoes(f *testing.F) {
	add := func(claims, mode, roles, verb string, standing, rules uint16) {
		f.Add(plainHeader, claims, "", mode, roles, verb, "/api/v1/query/x?q=1", "user", standing, rules)
	}
	for i, c := range table {
		add(c.claims, "strict", "", "GET", uint16(i*37), uint16(i*11))
		add(c.claims, "initial", "user, admin", "OPTIONS", 0, uint16(i))
	}
	f.Add(`{"alg":"HS256","kid":"k"}`, inCo, "x", "none", "", "GET", "", "", uint16(0), uint16(0))
	f.Add(`{"alg":"HS256"}`, `{"exp":-62135596801,"sub":"ana@x.test"}`, "", "none", " ", "\xff", "\x1b[2J", "\u202e", uint16(9), uint16(3))
	f.Fuzz(func(t *testing.T, header, payload, damage, mode, roles, verb, path, role string, standing, rules uint16) {
		in := request("Bearer "+jwt(header, payload)+damage, extension("auth_mode", mode), extension("roles", roles), method(verb))
		in.Attributes.Request.Http.Path = path
		if payload == "" {
			delete(in.Attributes.Request.Http.Headers, "authorization")
		}
		if _, err := proto.Marshal(in); err != nil {
			return // it could not be sent
		}
		o := options(t, token.Rules{Profile: token.Profile(rules & 1)}, directory(func(context.Context, identity.UserID, identity.SessionID, identity.CompanyID) (identity.Standing, error) {
			return somebody(standing, role), nil
		}))
		if standing&1 != 0 {
			o.Memory = memory(func(identity.UserID, identity.SessionID, identity.CompanyID) (identity.Standing, bool) {
				return somebody(standing, role), true
			})
		}
		o.SkipUserCheck, o.SkipCompanyCheck, o.TokenRoles = rules&2 != 0, rules&4 != 0, rules&8 != 0
		if rules&16 != 0 {
			o.LegacyTokensUntil = now
		}
		var kept recorder
		o.Recorder = &kept
		g := newGate(t, o)
		answered := check(t, g, in)
		e, err := g.Explain(t.Context(), questionOf(in), now)
		if err != nil {
			t.Fatal(err)
		}

		if got, want := ends(t, e), reason(answered); got != want {
			t.Fatalf("the steps end in %q, the answer in %q", got, want)
		}
		set, removed, status, body := effectsOf(answered)
		shown := map[string]string{}
		for _, h := range e.Effects.Set {
			shown[h.Name] = h.Value
		}
		if !cmp.Equal(set, shown) || !slices.Equal(removed, e.Effects.Removed) || status != e.Effects.Status || body != e.Effects.Body {
			t.Fatalf("the answer is\n%v\nexplained as\n%v", answered, e.Effects)
		}
		if len(kept.recorded) != 1 {
			t.Fatalf("%d records of one check", len(kept.recorded))
		}
		record := kept.recorded[0]
		if e.Decision.DurationMs = record.GetDurationMs(); !proto.Equal(record, e.Decision) {
			t.Fatalf("recorded is\n%v\nexplained is\n%v", record, e.Decision)
		}
		for _, word := range []string{"secret-email", jwt(header, payload)} {
			if strings.Contains(told(t, e), word) {
				t.Fatalf("the explanation holds %q: %v", word, told(t, e))
			}
		}
		again, err := authz.NewReplayer(o)
		if err != nil {
			t.Fatal(err)
		}
		switch r := again.Replay(record); r.Verdict {
		case authz.Same:
		case authz.Changed:
			t.Fatalf("judged again under the same rules it is %+v\n%v", r, record)
		case authz.Undecidable:
			if !record.GetToken().GetAltered() && record.GetReason() != "internal" && record.GetReason() != "unavailable" {
				t.Fatalf("it cannot be judged again: %s\n%v", r.Why, record)
			}
		}
	})
}

// somebody is a user, each bit of which may be otherwise.
func somebody(bits uint16, role string) identity.Standing {
	bit := func(n int) bool { return bits>>n&1 != 0 }
	s := member()
	s.Exists, s.Active, s.Suspended = !bit(1), !bit(2), bit(3)
	s.Email = "secret-email@x.test"
	s.Session = identity.Session{Exists: !bit(4), Ended: bit(5), ValidFrom: now.Add(-60e9), NotAfter: now.Add(3600e9)}
	if bit(6) {
		s.Memberships = s.Memberships[1:]
	}
	if bit(7) {
		s.TokensValidAfter = now
	}
	if bit(8) && len(s.Memberships) > 0 {
		s.Memberships[0].Role = role
	}
	return s
}

func TestAGateThatCannotReadTokensExplainsNothing(t *testing.T) {
	o := options(t, token.Rules{}, saying(member()))
	plain := o.Verifier
	o.Verifier = verifier(plain.Verify)
	if _, err := newGate(t, o).Explain(t.Context(), authz.Question{}, now); err == nil {
		t.Error("it explains")
	}
	if _, err := authz.NewReplayer(o); err == nil {
		t.Error("it judges again")
	}
	o.Recorder = &recorder{}
	if _, err := authz.New(o); err == nil {
		t.Error("it records")
	}
}
