package authz_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/atenex/gatehouse/authz"
	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/token"
)

const (
	foreignIss    = "https://project.supabase.example/auth/v1"
	foreignSecret = "test-secret-of-another-issuer-than-ourselves"
)

// trusting are options of a gate that trusts one more issuer.
func trusting(t testing.TB, o authz.Options, edit func(*token.Terms)) authz.Options {
	t.Helper()
	keys, err := token.Sources{Algorithm: "HS256", Secret: []byte(foreignSecret)}.KeySet()
	if err != nil {
		t.Fatal(err)
	}
	terms := token.Terms{Issuer: foreignIss, Algorithms: []string{"HS256"}, Keys: keys, Profile: token.Supabase, Beyond: identity.Issuer{Name: "supabase"}}
	if edit != nil {
		edit(&terms)
	}
	e, err := token.NewTrusted(terms)
	if err != nil {
		t.Fatal(err)
	}
	v, _ := o.Verifier.(*token.Verifier)
	if err := v.Trust([]*token.Trusted{e}); err != nil {
		t.Fatal(err)
	}
	return o
}

// foreigner is a good token of that issuer, with a session that is none of ours.
func foreigner(header, members string) string {
	b64 := base64.RawURLEncoding
	claims := fmt.Sprintf(`{"sub":%q,"iat":%d,"exp":%d,"iss":%q,"aud":"authenticated","role":"authenticated","email":"token@x.test","sid":%q,"app_metadata":{"company_id":%q,"roles":["editor"]}%s}`,
		userText, now.Unix()-60, now.Unix()+3600, foreignIss, sessionText, companyText, members)
	input := b64.EncodeToString([]byte(header)) + "." + b64.EncodeToString([]byte(claims))
	mac := hmac.New(sha256.New, []byte(foreignSecret))
	mac.Write([]byte(input))
	return "Bearer " + input + "." + b64.EncodeToString(mac.Sum(nil))
}

func TestWhoComesFromAnotherIssuerIsJudgedByWhatIsSaidOfThatOne(t *testing.T) {
	nobody := failing(errors.New("nobody is to be asked"))
	marked := member()
	marked.TokensValidAfter = now
	gone := member()
	gone.Memberships = nil
	cases := []struct {
		name      string
		directory authz.Directory
		options   func(*authz.Options)
		issuer    func(*token.Terms)
		roles     string
		want      string
	}{
		{"a member", saying(member()), nil, nil, "", "ok"},
		{"a user who is not there", saying(identity.Standing{}), nil, nil, "", "user_not_found"},
		{"a user who is not there, of an issuer whose users are not looked up", nobody, nil, func(t *token.Terms) { t.Beyond.SkipUserCheck = true }, "", "ok"},
		{"a session of somebody else's is not looked at", saying(member()), nil, func(t *token.Terms) { t.Sessions = false }, "", "ok"},
		{"a session of ours that does not exist", saying(member()), nil, func(t *token.Terms) { t.Sessions = true }, "", "token_revoked"},
		{"a token from before the mark on the user's", saying(marked), nil, nil, "", "token_revoked"},
		{"a token without kid, after the time of ours without", saying(member()), func(o *authz.Options) { o.LegacyTokensUntil = now }, nil, "", "ok"},
		{"after the issuer's time", saying(member()), nil, func(t *token.Terms) { t.Beyond.Until = now }, "", "token_revoked"},
		{"after the issuer's time, whose users are not looked up", nobody, nil, func(t *token.Terms) { t.Beyond.Until, t.Beyond.SkipUserCheck = now, true }, "", "token_revoked"},
		{"before the issuer's time", saying(member()), nil, func(t *token.Terms) { t.Beyond.Until = now.Add(time.Second) }, "", "ok"},
		{"a company that the user has left", saying(gone), nil, nil, "", "company_left"},
		{"a company that is not asked about", saying(gone), nil, func(t *token.Terms) { t.Beyond.SkipCompanyCheck = true }, "", "ok"},
		{"a company that is not asked about with tokens of ours", saying(gone), func(o *authz.Options) { o.SkipCompanyCheck = true }, nil, "", "company_left"},
		{"a role that the token says", saying(member()), nil, func(t *token.Terms) { t.Beyond.TokenRoles = true }, "editor", "ok"},
		{"a role that only the database has", saying(member()), nil, func(t *token.Terms) { t.Beyond.TokenRoles = true }, "user", "role_insufficient"},
		{"a role of the database", saying(member()), nil, nil, "user", "ok"},
		{"a role that the token says, which does not count", saying(member()), nil, nil, "editor", "role_insufficient"},
		{"likewise where ours count", saying(member()), func(o *authz.Options) { o.TokenRoles = true }, nil, "editor", "role_insufficient"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			o := trusting(t, options(t, token.Rules{}, c.directory), c.issuer)
			if c.options != nil {
				c.options(&o)
			}
			asked := request(foreigner(plainHeader, ""), extension("roles", c.roles))
			d := recordOf(t, o, asked)
			if d.GetReason() != c.want {
				t.Fatalf("it ends with %s, want %s", d.GetReason(), c.want)
			}
			if d.GetToken().GetIssuedBy() != "supabase" || d.GetToken().GetProfile() != "supabase" {
				t.Errorf("recorded as %v", d.GetToken())
			}
			fresh := trusting(t, options(t, token.Rules{}, c.directory), c.issuer)
			if c.options != nil {
				c.options(&fresh)
			}
			e := explain(t, fresh, asked)
			if got := ends(t, e); got != c.want {
				t.Errorf("explained as %s, want %s", got, c.want)
			}
			if form := step(t, e, "form"); !strings.Contains(form, `iss "`+foreignIss+`" and alg "HS256" are those of the issuer supabase`) {
				t.Errorf("the choice is explained as %q", form)
			}
			if got := replay(t, fresh, d); got.Verdict != authz.Same {
				t.Errorf("judged again it is %+v", got)
			}
		})
	}
}

func step(t testing.TB, e authz.Explanation, name string) string {
	t.Helper()
	for _, s := range e.Steps {
		if s.Name == name {
			return s.Checked
		}
	}
	t.Fatalf("there is no step %s", name)
	return ""
}

func TestWhoseATokenWasTakenForIsExplained(t *testing.T) {
	o := trusting(t, options(t, token.Rules{Issuer: "https://gate.example"}, saying(member())), nil)
	cases := []struct{ name, authorization, form, issuer string }{
		{"our own", bearer(`,"iss":"https://gate.example","company_id":"` + companyText + `"`), `iss "https://gate.example" is our own`, "wanted"},
		{"nobody's", bearer(`,"iss":"https://nobody.example"`), `iss "https://nobody.example" is no other issuer's, so taken for our own`, `wanted "https://gate.example"`},
		{"none", bearer(``), "no iss, so taken for our own", `no iss, wanted "https://gate.example"`},
		{"another's, with an algorithm that is not", foreigner(`{"alg":"HS512"}`, ""), `whose tokens do not have alg "HS512", but HS256`, ""},
		{"one that cannot be read", "Bearer x.y.z", "base64url", ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			e, err := newGate(t, withRegistry(o)).Explain(t.Context(), questionOf(request(c.authorization)), now)
			if err != nil {
				t.Fatal(err)
			}
			if got := step(t, e, "form"); !strings.Contains(got, c.form) {
				t.Errorf("form: %q, want %q", got, c.form)
			}
			if got := step(t, e, "issuer"); !strings.Contains(got, c.issuer) {
				t.Errorf("issuer: %q, want %q", got, c.issuer)
			}
		})
	}
}

func TestARecordOfAnIssuerThatIsNoMoreCannotBeJudgedAgain(t *testing.T) {
	with := func() authz.Options { return trusting(t, options(t, token.Rules{}, saying(member())), nil) }
	without := func() authz.Options { return options(t, token.Rules{}, saying(member())) }
	mapped := func() authz.Options {
		return trusting(t, options(t, token.Rules{}, saying(member())), func(terms *token.Terms) {
			terms.Profile, terms.Claims, terms.Audience = token.Native, &token.Mapping{User: "sub", Company: "app_metadata.company_id"}, "authenticated"
		})
	}
	foreign := recordOf(t, with(), request(foreigner(plainHeader, "")))
	malformed := recordOf(t, with(), request(foreigner(plainHeader, `,"nbf":"x"`)))
	ours := recordOf(t, without(), request("Bearer x.y.z"))
	for _, c := range []struct {
		name  string
		again authz.Replayed
		why   string
	}{
		{"it is trusted no more", replay(t, without(), foreign), "says other things in the profile native"},
		{"its claims are read otherwise now", replay(t, mapped(), foreign), "says other things in the profile user=sub"},
		{"what could not be read, and it is trusted no more", replay(t, without(), malformed), "which is no issuer any more"},
		{"what could not be read may be another issuer's now", replay(t, with(), ours), "may be one of another issuer"},
	} {
		if c.again.Verdict != authz.Undecidable || !strings.Contains(c.again.Why, c.why) {
			t.Errorf("%s: %+v, want %q", c.name, c.again, c.why)
		}
	}
	if got := replay(t, with(), malformed); got.Verdict != authz.Same {
		t.Errorf("what could not be read is %+v", got)
	}
}

// withRegistry lets one set of options make another gate.
func withRegistry(o authz.Options) authz.Options {
	o.Registerer = prometheus.NewRegistry()
	return o
}
