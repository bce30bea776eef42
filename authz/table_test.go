package authz_test

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

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/atenex/gatehouse/authz"
	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/problem"
	"github.com/atenex/gatehouse/internal/token"
)

var update = flag.Bool("update", false, "write the golden files anew")

// row is one line of the contract's table, or one way of passing it. Its name
// is that of two files: what Envoy sends, with ${TOKEN} in the place of the
// token, and what it is answered.
type row struct {
	name   string
	header string // of the token; empty: the usual one
	claims string // empty: no Authorization header
	forged bool   // the signature is of another token
	edits  []edit
	rules  token.Rules
	gate   func(*authz.Options)
	user   authz.Directory // nil: a member in good standing
	want   string          // the reason
}

func with(change func(*identity.Standing)) authz.Directory {
	s := member()
	change(&s)
	return saying(s)
}

func session(change func(*identity.Session)) authz.Directory {
	return with(func(s *identity.Standing) {
		s.Session = identity.Session{Exists: true, ValidFrom: now.Add(-time.Minute), NotAfter: now.Add(time.Hour)}
		change(&s.Session)
	})
}

func supabase(members string) string {
	return claims(`,"aud":"authenticated","role":"authenticated"` + members)
}

func skipUser(o *authz.Options) {
	o.SkipUserCheck, o.TokenRoles, o.Directory = true, true, nil
}

var (
	inCo      = claims(`,"company_id":"` + companyText + `"`)
	withSid   = claims(`,"company_id":"` + companyText + `","sid":"` + sessionText + `"`)
	supaCo    = supabase(`,"email":"ana@token.test","app_metadata":{"company_id":"` + companyText + `","roles":["admin","viewer"]}`)
	supaRules = token.Rules{Profile: token.Supabase}
)

var table = []row{
	{name: "01-not-authenticated-no-header", want: "not_authenticated"},
	{name: "02-not-authenticated-two-headers", claims: inCo, want: "not_authenticated", edits: []edit{
		func(in *authv3.CheckRequest) { in.Attributes.Request.Http.Headers["authorization"] += ",Basic YTpi" },
	}},
	{name: "03-not-authenticated-two-raw-headers", claims: inCo, want: "not_authenticated", edits: []edit{
		rawHeaders(&corev3.HeaderValue{Key: "Authorization", RawValue: []byte("Basic YTpi")}),
	}},
	{name: "04-malformed", claims: `{"sub":1}`, want: "token_malformed"},
	{name: "05-malformed-crit", header: `{"alg":"HS256","crit":["b64"],"b64":false}`, claims: inCo, want: "token_malformed"},
	{name: "06-signature", claims: inCo, forged: true, want: "token_signature"},
	{name: "07-expired", claims: `{"sub":"` + userText + `","exp":1799999999}`, want: "token_expired"},
	{name: "08-not-yet-valid", claims: claims(`,"nbf":1800000001`), want: "token_not_yet_valid"},
	{name: "09-audience", claims: claims(`,"aud":"another"`), rules: token.Rules{Audience: "gatehouse"}, want: "token_audience"},
	{name: "10-issuer", claims: inCo, rules: token.Rules{Issuer: "https://issuer.example"}, want: "token_issuer"},
	{name: "11-role", claims: claims(`,"aud":"authenticated","role":"service_role"`), rules: supaRules, want: "token_role"},
	{name: "12-claims-missing", claims: `{"sub":"` + userText + `"}`, rules: token.Rules{Audience: "gatehouse"}, want: "claims_missing"},
	{name: "13-subject-missing", claims: `{"exp":1800000001}`, want: "subject_missing"},
	{name: "14-subject-invalid", claims: `{"exp":1800000001,"sub":"7"}`, want: "subject_invalid"},
	{name: "15-company-invalid", claims: claims(`,"company_id":"c-1"`), want: "company_invalid"},
	{name: "16-user-not-found", claims: inCo, user: saying(identity.Standing{}), want: "user_not_found"},
	{name: "17-user-inactive", claims: inCo, user: with(func(s *identity.Standing) { s.Active = false }), want: "user_inactive"},
	{name: "18-revoked-before-the-mark", claims: inCo, user: with(func(s *identity.Standing) { s.TokensValidAfter = now.Add(-59 * time.Second) }), want: "token_revoked"},
	{name: "19-revoked-session-unknown", claims: withSid, want: "token_revoked"},
	{name: "20-revoked-session-ended", claims: withSid, user: session(func(s *identity.Session) { s.Ended = true }), want: "token_revoked"},
	{name: "21-revoked-session-unreadable", claims: claims(`,"company_id":"` + companyText + `","sid":"s-1"`), want: "token_revoked"},
	{name: "22-revoked-legacy", claims: inCo, gate: func(o *authz.Options) { o.LegacyTokensUntil = now }, want: "token_revoked"},
	{name: "23-company-missing", claims: claims(""), want: "company_missing"},
	{name: "24-company-left", claims: inCo, user: with(func(s *identity.Standing) { s.Memberships = s.Memberships[1:] }), want: "company_left"},
	{name: "25-company-suspended", claims: inCo, user: with(func(s *identity.Standing) { s.Suspended = true }), want: "company_suspended"},
	{name: "26-role-insufficient", claims: inCo, edits: []edit{extension("roles", "admin, owner")}, want: "role_insufficient"},
	{name: "27-unavailable", claims: inCo, user: failing(errors.New("connection refused")), want: "unavailable"},
	{name: "28-internal", claims: inCo, user: directory(nil), want: "internal"},

	{name: "40-allowed", claims: inCo, want: "ok"},
	{name: "41-allowed-raw-headers", claims: inCo, edits: []edit{rawHeaders()}, want: "ok"},
	{name: "42-allowed-second-company", claims: claims(`,"company_id":"` + strings.ToUpper(otherText) + `"`), want: "ok"},
	{name: "43-allowed-session", claims: withSid, user: session(func(*identity.Session) {}), want: "ok"},
	{name: "44-allowed-role", claims: inCo, edits: []edit{extension("roles", " ,admin, user,")}, want: "ok"},
	{name: "45-allowed-initial-without-company", claims: claims(""), edits: []edit{extension("auth_mode", "initial")}, want: "ok"},
	{name: "46-allowed-initial-company-left", claims: inCo, edits: []edit{extension("auth_mode", "initial")}, user: with(func(s *identity.Standing) { s.Memberships = nil }), want: "ok"},
	{name: "47-allowed-none", edits: []edit{extension("auth_mode", "none")}, want: "ok"},
	{name: "48-allowed-options-without-identity", claims: inCo, edits: []edit{method("OPTIONS")}, want: "ok"},
	{name: "49-allowed-email-left-out", claims: inCo, user: with(func(s *identity.Standing) { s.Email = "jürgen@x.test" }), want: "ok"},
	{name: "50-allowed-supabase", claims: supaCo, rules: supaRules, gate: func(o *authz.Options) { o.TokenRoles, o.SkipCompanyCheck = true, true }, edits: []edit{extension("roles", "admin")}, want: "ok"},
	{name: "51-allowed-without-user-check", claims: supaCo, rules: supaRules, gate: skipUser, want: "ok"},
	{name: "52-allowed-legacy-in-time", claims: inCo, gate: func(o *authz.Options) { o.LegacyTokensUntil = now.Add(time.Second) }, want: "ok"},
}

// D17: without a token the challenge is a bare Bearer.
func TestEveryRowOfTheContract(t *testing.T) {
	for _, c := range table {
		t.Run(c.name, func(t *testing.T) {
			in, out := c.ask(t)
			if got := reason(out); got != c.want {
				t.Errorf("reason %q, want %q", got, c.want)
			}
			golden(t, c.name+".request.json", in)
			golden(t, c.name+".response.json", out)
		})
	}
}

// ask makes the row's gate and asks it. The request that is returned has
// ${TOKEN} in it, the one that is asked has the token.
func (c row) ask(t testing.TB) (*authv3.CheckRequest, *authv3.CheckResponse) {
	t.Helper()
	in, asked, o := c.make(t)
	return in, alike(t, bothPaths(t, o), wire(t, asked))
}

// make gives the row's request, without its token and with it, and what its gate
// is made of.
func (c row) make(t testing.TB) (in, asked *authv3.CheckRequest, o authz.Options) {
	t.Helper()
	user := c.user
	if user == nil {
		user = saying(member())
	}
	o = options(t, c.rules, user)
	if c.gate != nil {
		c.gate(&o)
	}
	header := c.header
	if header == "" {
		header = plainHeader
	}
	raw := jwt(header, c.claims)
	if c.forged {
		raw = raw[:strings.LastIndexByte(raw, '.')] + jwt(header, "{}")[strings.LastIndexByte(jwt(header, "{}"), '.'):]
	}
	authorization := ""
	if c.claims != "" {
		authorization = "Bearer ${TOKEN}"
	}
	in = request(authorization, c.edits...)
	asked = proto.Clone(in).(*authv3.CheckRequest)
	http := asked.Attributes.Request.Http
	for name, value := range http.Headers {
		http.Headers[name] = strings.ReplaceAll(value, "${TOKEN}", raw)
	}
	for _, h := range http.GetHeaderMap().GetHeaders() {
		h.RawValue = bytes.ReplaceAll(h.RawValue, []byte("${TOKEN}"), []byte(raw))
	}
	return in, asked, o
}

func TestTheTableForgetsNoRefusalAndNoFile(t *testing.T) {
	tested, files := map[string]bool{}, map[string]bool{}
	for _, c := range table {
		tested[c.want] = true
		files[c.name+".request.json"], files[c.name+".response.json"] = true, true
	}
	for _, p := range problem.Decisions() {
		if !tested[p.Reason] {
			t.Errorf("no row ends in %q", p.Reason)
		}
	}
	found, err := os.ReadDir("testdata")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		if !f.IsDir() && !files[f.Name()] {
			t.Errorf("testdata/%s belongs to no row", f.Name())
		}
	}
}

func reason(out *authv3.CheckResponse) string {
	return out.GetDynamicMetadata().GetFields()["reason"].GetStringValue()
}

// golden compares m with a file of its protobuf JSON, laid out by encoding/json
// because protojson varies its spaces on purpose.
func golden(t *testing.T, name string, m proto.Message) {
	t.Helper()
	raw, err := protojson.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var value any
	if err := json.Unmarshal(raw, &value); err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	e := json.NewEncoder(&got)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(value); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, got.Bytes()) {
		t.Errorf("%s differs from what is said now (-update writes it anew):\n%s", path, got.String())
	}
}
