package authz_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/atenex/gatehouse/authz"
	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/token"
	gatehousev1 "github.com/atenex/gatehouse/proto/gatehouse/v1"
)

// recordOf asks a gate, and returns what it recorded of that.
func recordOf(t testing.TB, o authz.Options, in *authv3.CheckRequest) *gatehousev1.Decision {
	t.Helper()
	var kept recorder
	o.Recorder, o.Instance = &kept, "authz-0"
	check(t, newGate(t, o), in)
	if len(kept.recorded) != 1 {
		t.Fatalf("%d records of one check", len(kept.recorded))
	}
	return kept.recorded[0]
}

// The files are what the decision log has of each row of the contract.
func TestEveryRowOfTheContractIsRecorded(t *testing.T) {
	for _, c := range table {
		t.Run(c.name, func(t *testing.T) {
			_, asked, o := c.make(t)
			d := recordOf(t, o, asked)
			if d.GetReason() != c.want {
				t.Errorf("reason %q, want %q", d.GetReason(), c.want)
			}
			text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(d)
			if err != nil {
				t.Fatal(err)
			}
			var value any
			if err := json.Unmarshal(text, &value); err != nil {
				t.Fatal(err)
			}
			if text, err = json.MarshalIndent(value, "", "  "); err != nil {
				t.Fatal(err)
			}
			goldenText(t, filepath.Join("record", c.name+".json"), string(text)+"\n")
			for _, word := range []string{"eyJ", "Bearer", "@", secret, "chats?"} {
				if strings.Contains(string(text), word) {
					t.Errorf("the record holds %q", word)
				}
			}
		})
	}
}

func TestWhatStrangersChooseIsRecordedBoundedAndClean(t *testing.T) {
	long := strings.Repeat("x", 5000)
	many := `["` + strings.Repeat(`a","`, 100) + `z"]`
	target := func(path string) edit {
		return func(in *authv3.CheckRequest) { in.Attributes.Request.Http.Path = path }
	}
	cases := []struct {
		name    string
		in      *authv3.CheckRequest
		altered bool // of the token
		path    bool // likewise
	}{
		{"a long path", request("", target("/"+long)), false, true},
		{"a path of control characters", request("", target("/\x1b[2J\x00")), false, true},
		{"a query", request("", target("/ok?email=ana@x.test")), false, false},
		{"a token in the path", request("", target("/reset/eyJhbGciOiJub25lIn0.eyJ0ZXN0Ijo0fQ.c2ln/x")), false, true},
		{"a refresh token in the path", request("", target("/reset/gatehouse_rt_dGVzdA")), false, true},
		{"a long method", request("", method(long)), false, false},
		{"a long issuer", request(bearer(`,"iss":"` + long + `"`)), true, false},
		{"an issuer that turns a terminal around", request(bearer(`,"iss":"\u202e"`)), true, false},
		{"a long audience", request(bearer(`,"aud":` + many)), true, false},
		{"a long kid", request("Bearer " + jwt(`{"alg":"HS256","kid":"`+long+`"}`, inCo)), true, false},
		{"an address in the place of the user", request("Bearer " + jwt(plainHeader, `{"exp":1900000000,"sub":"ana@x.test"}`)), false, false},
		{"addresses in the place of other ids", request(bearer(`,"company_id":"ana@x.test","sid":"ana@x.test"`)), false, false},
		{"a time before all times", request("Bearer " + jwt(plainHeader, `{"exp":-99999999999}`)), true, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			d := recordOf(t, options(t, token.Rules{}, saying(member())), c.in)
			text, err := protojson.Marshal(d)
			if err != nil {
				t.Fatal(err)
			}
			if len(text) > 3000 || strings.ContainsAny(string(text), "@?\u202e") || strings.Contains(string(text), "dGVzdA") || strings.Contains(string(text), "/eyJ") || strings.Contains(string(text), `\u00`) {
				t.Errorf("the record of %d bytes is %s", len(text), text)
			}
			if d.GetToken().GetAltered() != c.altered || d.GetPathAltered() != c.path {
				t.Errorf("altered: token %t, path %t; want %t and %t", d.GetToken().GetAltered(), d.GetPathAltered(), c.altered, c.path)
			}
		})
	}
}

func TestOfManyCompaniesTheTokensIsRecorded(t *testing.T) {
	s := member()
	s.Memberships = nil
	for i := range 100 {
		s.Memberships = append(s.Memberships, identity.Membership{Company: identity.CompanyID{byte(i), 1}, Role: "user"})
	}
	s.Memberships[90].Company = company
	o := options(t, token.Rules{}, saying(s))
	d := recordOf(t, o, request(inCompany()))
	if n := len(d.GetStanding().GetMemberships()); n != 64 || d.GetStanding().GetMembershipsLeftOut() != 36 {
		t.Errorf("%d companies are recorded and %d left out", n, d.GetStanding().GetMembershipsLeftOut())
	}
	if r := replay(t, o, d); r.Verdict != authz.Same {
		t.Errorf("judged again it is %+v", r)
	}
	if s.Memberships[63].Company == company {
		t.Error("the standing itself was changed, which memory shares")
	}
}

func TestTheRecorderIsAskedBeforeAnythingIsReadForIt(t *testing.T) {
	kept := recorder{wants: func(o gatehousev1.Outcome) bool { return o == gatehousev1.Outcome_OUTCOME_DENY }}
	o := options(t, token.Rules{}, saying(member()))
	o.Recorder = &kept
	g := newGate(t, o)
	check(t, g, request(inCompany()))
	check(t, g, request(""))
	if len(kept.recorded) != 1 || kept.recorded[0].GetReason() != "not_authenticated" {
		t.Errorf("recorded is %v", kept.recorded)
	}
}

// panicking is a recorder with a fault.
type panicking struct{}

func (panicking) Wants(gatehousev1.Outcome) bool { return true }
func (panicking) Record(*gatehousev1.Decision)   { panic("a fault in recording") }

func TestAFaultInRecordingChangesNoAnswer(t *testing.T) {
	log, logger := jsonLog(slog.LevelError)
	o := options(t, token.Rules{}, saying(member()))
	o.Recorder, o.Logger = panicking{}, logger
	g := newGate(t, o)
	for range 100 {
		if got := reason(check(t, g, request(inCompany()))); got != "ok" {
			t.Fatalf("reason %q", got)
		}
	}
	if got := lines(t, log); len(got) != 5 || got[0]["panic"] != "a fault in recording" {
		t.Errorf("it is told in %d lines: %v", len(got), log)
	}
}

func TestWhatIsNoMessageIsRecordedToo(t *testing.T) {
	var kept recorder
	o := options(t, token.Rules{}, saying(member()))
	o.Recorder = &kept
	newGate(t, o).Answer(t.Context(), "\xff\xff", nil)
	if len(kept.recorded) != 1 || kept.recorded[0].GetReason() != "internal" || kept.recorded[0].GetStatus() != 500 {
		t.Errorf("recorded is %v", kept.recorded)
	}
}

// A token from the cache of verified ones is read for its record all the same, and
// what memory says is told from what the database says.
func TestARecordSaysWhoKnewTheUser(t *testing.T) {
	for source, m := range map[string]authz.Memory{
		"database": nil,
		"memory": memory(func(identity.UserID, identity.SessionID, identity.CompanyID) (identity.Standing, bool) {
			return member(), true
		}),
	} {
		o := options(t, token.Rules{}, saying(member()))
		plain := o.Verifier.(*token.Verifier)
		o.Verifier, o.Tokens, o.Memory = verifier(plain.Verify), plain, m
		d := recordOf(t, o, request(inCompany()))
		if d.GetStanding().GetSource() != source || d.GetToken().GetCompanyId() != companyText {
			t.Errorf("%s: recorded is %v", source, d)
		}
	}
}

func replay(t testing.TB, o authz.Options, d *gatehousev1.Decision) authz.Replayed {
	t.Helper()
	again, err := authz.NewReplayer(o)
	if err != nil {
		t.Fatal(err)
	}
	before := proto.Clone(d)
	r := again.Replay(d)
	if !proto.Equal(before, d) {
		t.Error("judging a record again changes it")
	}
	return r
}

// routed is a route table of one row.
type routed authz.Route

func (r routed) Route(string, string) authz.Route { return authz.Route(r) }

func TestDecisionsAreJudgedAgainUnderOtherRules(t *testing.T) {
	const same, changed, undecidable = authz.Same, authz.Changed, authz.Undecidable
	type rules struct {
		token  token.Rules
		secret string // empty: the usual one
		gate   func(*authz.Options)
	}
	to := func(mode, roles string) func(*authz.Options) {
		return func(o *authz.Options) { o.Router = routed{Name: "new", Mode: mode, Roles: roles} }
	}
	expired := `{"sub":"` + userText + `","exp":1799999999,"company_id":"` + companyText + `"}`
	supaExpired := strings.Replace(supaCo, fmt.Sprint(now.Unix()+3600), fmt.Sprint(now.Unix()-1), 1)
	long := claims(`,"company_id":"` + companyText + `","iss":"` + strings.Repeat("i", 300) + `"`)
	cases := []struct {
		name string
		row  // as it was decided
		rules
		verdict authz.Verdict
		to      string // the reason
	}{
		{"an audience that the token lacks", row{claims: inCo}, rules{token: token.Rules{Audience: "gatehouse"}}, changed, "claims_missing"},
		{"an audience that is no longer wanted", row{claims: claims(`,"aud":"x","company_id":"` + companyText + `"`), rules: token.Rules{Audience: "gatehouse"}}, rules{}, undecidable, ""},
		{"an issuer that the token lacks", row{claims: inCo}, rules{token: token.Rules{Issuer: "https://x.test"}}, changed, "token_issuer"},
		{"a leeway that saves a token, of whose user nothing is known", row{claims: expired}, rules{token: token.Rules{Leeway: 2e9}}, undecidable, ""},
		{"a leeway that saves a token, where users are not looked up", row{claims: supaExpired, rules: supaRules, gate: skipUser}, rules{token: token.Rules{Profile: token.Supabase, Leeway: 2e9}, gate: skipUser}, changed, "ok"},
		{"the end of tokens without a key's name", row{claims: inCo}, rules{gate: func(o *authz.Options) { o.LegacyTokensUntil = now }}, changed, "token_revoked"},
		{"tokens that name their key stay", row{header: `{"alg":"HS256","kid":"k"}`, claims: inCo}, rules{gate: func(o *authz.Options) { o.LegacyTokensUntil = now }}, same, "ok"},
		{"a company check that is lifted", row{claims: inCo, user: with(func(s *identity.Standing) { s.Memberships = nil })}, rules{gate: func(o *authz.Options) { o.SkipCompanyCheck = true }}, changed, "ok"},
		{"a company check that is put in force", row{claims: inCo, gate: func(o *authz.Options) { o.SkipCompanyCheck = true }, user: with(func(s *identity.Standing) { s.Memberships = nil })}, rules{}, changed, "company_left"},
		{"a user check that is put in force, without which nobody was asked", row{claims: supaCo, rules: supaRules, gate: skipUser}, rules{token: supaRules}, undecidable, ""},
		{"a user check that is lifted", row{claims: supaCo, rules: supaRules, gate: func(o *authz.Options) { o.TokenRoles = true }, user: with(func(s *identity.Standing) { s.Active = false })}, rules{token: supaRules, gate: skipUser}, changed, "ok"},

		{"a route that asks for a role now", row{claims: inCo}, rules{gate: to("strict", "admin")}, changed, "role_insufficient"},
		{"a route that asks for less now", row{claims: claims("")}, rules{gate: to("initial", "")}, changed, "ok"},
		{"a route that is open now", row{claims: inCo, forged: true}, rules{gate: to("none", "")}, changed, "ok"},
		{"a route that is open now, to a request without a token", row{}, rules{gate: to("none", "")}, changed, "ok"},
		{"a route that is no longer open", row{claims: inCo, edits: []edit{extension("auth_mode", "none")}}, rules{gate: to("strict", "")}, undecidable, ""},
		{"roles as they were recorded", row{claims: inCo, edits: []edit{extension("roles", "admin, user")}}, rules{}, same, "ok"},
		{"roles that name nobody, as they were recorded", row{claims: inCo, edits: []edit{extension("roles", " , ")}}, rules{}, same, "role_insufficient"},
		{"a route by a path that was not recorded in full", row{claims: inCo, edits: []edit{func(in *authv3.CheckRequest) { in.Attributes.Request.Http.Path = "/" + strings.Repeat("x", 2000) }}}, rules{gate: to("strict", "")}, undecidable, ""},
		{"the same path, where routes are as recorded", row{claims: inCo, edits: []edit{func(in *authv3.CheckRequest) { in.Attributes.Request.Http.Path = "/" + strings.Repeat("x", 2000) }}}, rules{}, same, "ok"},

		{"another secret, for a token that was good", row{claims: inCo}, rules{secret: "test-secret-that-is-another-one-for-authz"}, undecidable, ""},
		{"another secret, for a token that was forged", row{claims: inCo, forged: true}, rules{secret: "test-secret-that-is-another-one-for-authz"}, undecidable, ""},
		{"the same secret, for a token that was forged", row{claims: inCo, forged: true}, rules{token: token.Rules{Audience: "x"}}, same, "token_signature"},
		{"no key for the algorithm any more", row{claims: inCo}, rules{secret: "HS512"}, changed, "token_malformed"},
		{"a token that cannot be read", row{claims: `{"sub":1}`}, rules{token: token.Rules{Audience: "x"}}, same, "token_malformed"},
		{"another profile", row{claims: inCo}, rules{token: supaRules}, undecidable, ""},
		{"a token whose texts were cut", row{claims: long}, rules{}, undecidable, ""},

		{"a database that was down", row{claims: inCo, user: failing(errors.New("down"))}, rules{}, undecidable, ""},
		{"a database that was down, and a token that is refused now", row{claims: inCo, user: failing(errors.New("down"))}, rules{token: token.Rules{Issuer: "x"}}, changed, "token_issuer"},
		{"a fault of ours", row{claims: inCo, user: directory(nil)}, rules{}, undecidable, ""},
		{"the nil UUID", row{claims: strings.Replace(inCo, userText, "00000000-0000-0000-0000-000000000000", 1)}, rules{}, same, "user_not_found"},
		{"no token", row{}, rules{token: token.Rules{Audience: "x"}}, same, "not_authenticated"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, asked, o := c.row.make(t)
			d := recordOf(t, o, asked)
			again := options(t, c.rules.token, nil)
			again.Tokens = verifierOf(t, c.rules.token, c.rules.secret)
			if c.rules.gate != nil {
				c.rules.gate(&again)
			}
			got := replay(t, again, d)
			if got.Verdict != c.verdict || got.To.Reason != c.to || got.From.Reason != d.GetReason() {
				t.Errorf("got %+v, want %s and %q", got, c.verdict, c.to)
			}
			if (got.Why == "") != (got.Verdict != undecidable) {
				t.Errorf("why: %q", got.Why)
			}
			replayer, err := authz.NewReplayer(again)
			if err != nil {
				t.Fatal(err)
			}
			e, same, err := replayer.Explain(d)
			if err != nil || same != got {
				t.Fatalf("explained it is %+v (%v)", same, err)
			}
			if got.Verdict == undecidable {
				if e.Steps != nil {
					t.Error("what cannot be decided is explained")
				}
			} else if end := ends(t, e); end != c.to || e.Effects.Status != got.To.Status {
				t.Errorf("explained it ends in %q with %d", end, e.Effects.Status)
			}
		})
	}
}

// verifierOf has another secret, or HS512 in the place of HS256.
func verifierOf(t testing.TB, rules token.Rules, other string) *token.Verifier {
	t.Helper()
	sources := token.Sources{Algorithm: "HS256", Secret: []byte(secret)}
	switch other {
	case "":
	case "HS512":
		sources.Algorithm = other
	default:
		sources.Secret = []byte(other)
	}
	keys, err := sources.KeySet()
	if err != nil {
		t.Fatal(err)
	}
	rules.Keys = keys
	v, err := token.NewVerifier(rules)
	if err != nil {
		t.Fatal(err)
	}
	return v
}
