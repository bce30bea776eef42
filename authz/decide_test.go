package authz_test

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/google/go-cmp/cmp"

	"github.com/atenex/gatehouse/authz"
	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/token"
)

// Each case has two faults; the one of the earlier row is told.
func TestTheEarlierRowWins(t *testing.T) {
	gone := with(func(s *identity.Standing) { s.Active, s.TokensValidAfter = false, now })
	cases := []struct {
		name string
		row
	}{
		{"no token, and the database is down", row{user: failing(errors.New("down")), want: "not_authenticated"}},
		{"an expired token, and the database is down", row{claims: `{"exp":1}`, user: failing(errors.New("down")), want: "token_expired"}},
		{"the database is down, and no company", row{claims: claims(""), user: failing(errors.New("down")), want: "unavailable"}},
		{"an unknown user, and no company", row{claims: claims(""), user: saying(identity.Standing{}), want: "user_not_found"}},
		{"an inactive user, and a revoked token", row{claims: inCo, user: gone, want: "user_inactive"}},
		{"an inactive user, and a token without a key's name", row{claims: inCo, user: gone, gate: func(o *authz.Options) { o.LegacyTokensUntil = now }, want: "user_inactive"}},
		{"a revoked token, and no company", row{claims: claims(""), user: with(func(s *identity.Standing) { s.TokensValidAfter = now }), want: "token_revoked"}},
		{"no company, and no role", row{claims: claims(""), edits: []edit{extension("roles", "admin")}, want: "company_missing"}},
		{"a company that was left, and no role", row{claims: inCo, edits: []edit{extension("roles", "admin")}, user: with(func(s *identity.Standing) { s.Memberships = nil }), want: "company_left"}},
		{"a suspended company, and no role", row{claims: inCo, edits: []edit{extension("roles", "admin")}, user: with(func(s *identity.Standing) { s.Suspended = true }), want: "company_suspended"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if _, out := c.ask(t); reason(out) != c.want {
				t.Errorf("reason %q, want %q", reason(out), c.want)
			}
		})
	}
}

// D2: a role is that of the company which the token acts for, from the database.
func TestDoubtAboutARouteRefuses(t *testing.T) {
	initial := extension("auth_mode", "initial")
	cases := []struct {
		name string
		row
	}{
		{"no mode is strict", row{claims: claims(""), edits: []edit{extension("auth_mode", "")}, want: "company_missing"}},
		{"no context extensions at all are strict", row{claims: claims(""), edits: []edit{func(in *authv3.CheckRequest) { in.Attributes.ContextExtensions = nil }}, want: "company_missing"}},
		{"a misspelt mode is strict", row{claims: claims(""), edits: []edit{extension("auth_mode", "stritc")}, want: "company_missing"}},
		{"a mode in another letter case is strict", row{edits: []edit{extension("auth_mode", "None")}, want: "not_authenticated"}},
		{"a mode with a space is strict", row{edits: []edit{extension("auth_mode", "none ")}, want: "not_authenticated"}},
		{"an extension in another letter case is none", row{edits: []edit{extension("auth_mode", ""), extension("AUTH_MODE", "none")}, want: "not_authenticated"}},
		{"an open route that asks for roles is strict", row{edits: []edit{extension("auth_mode", "none"), extension("roles", "admin")}, want: "not_authenticated"}},
		{"roles that name nobody admit nobody", row{claims: inCo, edits: []edit{extension("roles", " , ")}, want: "role_insufficient"}},
		{"a role in another letter case is another role", row{claims: inCo, edits: []edit{extension("roles", "USER")}, want: "role_insufficient"}},
		{"an empty role of a user matches nothing", row{claims: inCo, edits: []edit{extension("roles", "admin,,")}, user: with(func(s *identity.Standing) { s.Memberships[0].Role = "" }), want: "role_insufficient"}},
		{"a role is that of the token's company, not of another", row{claims: inCo, edits: []edit{initial, extension("roles", "admin")}, want: "role_insufficient"}},
		{"a user who acts for no company has no role", row{claims: claims(""), edits: []edit{initial, extension("roles", "user")}, want: "role_insufficient"}},
		{"a role in a suspended company is none", row{claims: inCo, edits: []edit{initial, extension("roles", "user")}, user: with(func(s *identity.Standing) { s.Suspended = true }), want: "role_insufficient"}},
		{"native roles in a token are not believed", row{claims: claims(`,"company_id":"` + companyText + `","roles":["admin"],"role":"admin","app_metadata":{"roles":["admin"]}`), edits: []edit{extension("roles", "admin")}, want: "role_insufficient"}},
		{"Supabase's roles are the token's, not the table's", row{claims: supaCo, rules: supaRules, gate: func(o *authz.Options) { o.TokenRoles = true }, edits: []edit{extension("roles", "user")}, want: "role_insufficient"}},
		{"without a user check the nil UUID is still nobody", row{claims: strings.Replace(supaCo, userText, "00000000-0000-0000-0000-000000000000", 1), rules: supaRules, gate: skipUser, want: "user_not_found"}},
		{"the nil UUID is nobody even if the table has it", row{claims: strings.Replace(inCo, userText, "00000000-0000-0000-0000-000000000000", 1), want: "user_not_found"}},
		{"without a user check a company is still needed", row{claims: supabase(""), rules: supaRules, gate: skipUser, want: "company_missing"}},
		{"without a user check old tokens still end", row{claims: supaCo, rules: supaRules, gate: func(o *authz.Options) { skipUser(o); o.LegacyTokensUntil = now }, want: "token_revoked"}},
		{"without a user check no session is asked for", row{claims: supabase(`,"sid":"s-1","app_metadata":{"company_id":"` + companyText + `"}`), rules: supaRules, gate: skipUser, want: "ok"}},
		{"without a company check a company is still needed", row{claims: claims(""), gate: func(o *authz.Options) { o.SkipCompanyCheck = true }, want: "company_missing"}},
		{"without a company check belonging is not asked", row{claims: inCo, gate: func(o *authz.Options) { o.SkipCompanyCheck = true }, user: with(func(s *identity.Standing) { s.Memberships = nil }), want: "ok"}},
		{"without a company check a suspended company is refused all the same", row{claims: inCo, gate: func(o *authz.Options) { o.SkipCompanyCheck = true }, user: with(func(s *identity.Standing) { s.Memberships, s.Suspended = nil, true }), want: "company_suspended"}},
		{"a token with a key's name outlives the old ones", row{header: `{"alg":"HS256","kid":"k"}`, claims: inCo, gate: func(o *authz.Options) { o.LegacyTokensUntil = now }, want: "ok"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if _, out := c.ask(t); reason(out) != c.want {
				t.Errorf("reason %q, want %q", reason(out), c.want)
			}
		})
	}
}

// identityHeaders is what an upstream would get of an allow.
func identityHeaders(t *testing.T, out *authv3.CheckResponse) (set map[string]string, removed []string) {
	t.Helper()
	ok := out.GetOkResponse()
	if ok == nil || out.GetStatus().GetCode() != 0 {
		t.Fatalf("not an allow: %v", out)
	}
	set = map[string]string{}
	for _, h := range ok.GetHeaders() {
		if h.GetAppendAction() != corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD || h.GetAppend() == nil || h.GetAppend().GetValue() { //nolint:staticcheck // deprecated, and still read
			t.Errorf("%s is not set to overwrite", h.GetHeader().GetKey())
		}
		set[h.GetHeader().GetKey()] = h.GetHeader().GetValue()
	}
	return set, ok.GetHeadersToRemove()
}

func TestEveryIdentityHeaderIsEitherSetOrRemoved(t *testing.T) {
	all := []string{"x-user-id", "x-company-id", "x-user-email"}
	email := func(text string) authz.Directory {
		return with(func(s *identity.Standing) { s.Email = text })
	}
	full := map[string]string{"x-user-id": userText, "x-company-id": companyText, "x-user-email": "ana@x.test"}
	withoutEmail := map[string]string{"x-user-id": userText, "x-company-id": companyText}
	cases := []struct {
		name string
		row
		want map[string]string
	}{
		{"a user in a company", row{claims: inCo}, full},
		{"UUIDs in capitals become canonical", row{claims: strings.NewReplacer(userText, strings.ToUpper(userText), companyText, strings.ToUpper(companyText)).Replace(inCo)}, full},
		{"the row's email, not the token's", row{claims: claims(`,"email":"eve@x.test","company_id":"` + companyText + `"`)}, full},
		{"no company", row{claims: claims(""), edits: []edit{extension("auth_mode", "initial")}}, map[string]string{"x-user-id": userText, "x-user-email": "ana@x.test"}},
		{"no email", row{claims: inCo, user: email("")}, withoutEmail},
		{"an email with a line end", row{claims: inCo, user: email("ana@x.test\r\nx-user-id: eve")}, withoutEmail},
		{"an email with NUL", row{claims: inCo, user: email("ana@x.test\x00")}, withoutEmail},
		{"an email with DEL", row{claims: inCo, user: email("ana@x.test\x7f")}, withoutEmail},
		{"an email that is not ASCII", row{claims: inCo, user: email("jürgen@x.test")}, withoutEmail},
		{"an email that is not UTF-8", row{claims: inCo, user: email("ana\xff@x.test")}, withoutEmail},
		{"an email that begins with a space", row{claims: inCo, user: email(" ana@x.test")}, withoutEmail},
		{"an email that ends with a space", row{claims: inCo, user: email("ana@x.test ")}, withoutEmail},
		{"a quoted email with a space", row{claims: inCo, user: email(`"ana b"@x.test`)}, map[string]string{"x-user-id": userText, "x-company-id": companyText, "x-user-email": `"ana b"@x.test`}},
		{"an email of absurd length", row{claims: inCo, user: email(strings.Repeat("a", 320) + "@x.test")}, withoutEmail},
		{"without a user check, the token's email", row{claims: supaCo, rules: supaRules, gate: skipUser}, map[string]string{"x-user-id": userText, "x-company-id": companyText, "x-user-email": "ana@token.test"}},
		{"an open route", row{claims: inCo, edits: []edit{extension("auth_mode", "none")}}, map[string]string{}},
		{"OPTIONS", row{claims: inCo, edits: []edit{method("OPTIONS")}}, map[string]string{}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, out := c.ask(t)
			set, removed := identityHeaders(t, out)
			if diff := cmp.Diff(c.want, set); diff != "" {
				t.Error(diff)
			}
			touched := maps.Clone(set)
			for _, name := range removed {
				if _, both := touched[name]; both {
					t.Errorf("%s is set and removed", name)
				}
				touched[name] = ""
			}
			for _, name := range all {
				delete(touched, name)
			}
			if len(set)+len(removed) != len(all) || len(touched) > 0 {
				t.Errorf("set %v, removed %v: want each of %v once and nothing else", set, removed, all)
			}
		})
	}
}

func TestAuthorizationIsReadWhereverEnvoyPutsIt(t *testing.T) {
	good := inCompany()
	header := func(key, value string) *corev3.HeaderValue { return &corev3.HeaderValue{Key: key, Value: value} }
	raw := func(key, value string) *corev3.HeaderValue {
		return &corev3.HeaderValue{Key: key, RawValue: []byte(value)}
	}
	cases := []struct {
		name    string
		headers map[string]string
		list    []*corev3.HeaderValue
		want    string
	}{
		{"in headers", map[string]string{"authorization": good}, nil, "ok"},
		{"in headers, in another letter case", map[string]string{"Authorization": good}, nil, "ok"},
		{"in the header map, raw", nil, []*corev3.HeaderValue{raw("authorization", good)}, "ok"},
		{"in the header map, as text", nil, []*corev3.HeaderValue{header("Authorization", good)}, "ok"},
		{"in the header map, raw and text alike", nil, []*corev3.HeaderValue{{Key: "authorization", Value: good, RawValue: []byte(good)}}, "ok"},
		{"in the header map, raw and text that differ", nil, []*corev3.HeaderValue{{Key: "authorization", Value: "Basic YTpi", RawValue: []byte(good)}}, "not_authenticated"},
		{"in both places", map[string]string{"authorization": good}, []*corev3.HeaderValue{raw("authorization", good)}, "not_authenticated"},
		{"twice in headers", map[string]string{"authorization": good, "AUTHORIZATION": good}, nil, "not_authenticated"},
		{"twice in the header map", nil, []*corev3.HeaderValue{raw("authorization", good), raw("Authorization", good)}, "not_authenticated"},
		{"once empty in the header map", nil, []*corev3.HeaderValue{raw("authorization", ""), raw("authorization", good)}, "not_authenticated"},
		{"bytes that are no text", nil, []*corev3.HeaderValue{raw("authorization", "Bearer \xff\xfe")}, "token_malformed"},
		{"a nil entry", nil, []*corev3.HeaderValue{nil, raw("authorization", good)}, "ok"},
		{"nowhere", nil, nil, "not_authenticated"},
	}
	s := newGate(t, options(t, token.Rules{}, saying(member())))
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			in := request("")
			in.Attributes.Request.Http.Headers = c.headers
			in.Attributes.Request.Http.HeaderMap = &corev3.HeaderMap{Headers: c.list}
			if got := reason(check(t, s, in)); got != c.want {
				t.Errorf("reason %q, want %q", got, c.want)
			}
		})
	}
}

func TestRequestsWithPartsMissingAreRefused(t *testing.T) {
	s := newGate(t, options(t, token.Rules{}, saying(member())))
	for name, in := range map[string]*authv3.CheckRequest{
		"nil":           nil,
		"empty":         {},
		"no request":    {Attributes: &authv3.AttributeContext{}},
		"no http":       {Attributes: &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{}}},
		"an empty http": {Attributes: &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{}}}},
	} {
		if got := reason(check(t, s, in)); got != "not_authenticated" {
			t.Errorf("%s: reason %q", name, got)
		}
	}
}

func TestADirectoryThatDoesNotAnswerInTimeIsUnavailable(t *testing.T) {
	cases := []struct {
		name string
		user directory
		ctx  func(context.Context) (context.Context, context.CancelFunc)
		want string
	}{
		{
			"one that waits for the end", func(ctx context.Context, _ identity.UserID, _ identity.SessionID, _ identity.CompanyID) (identity.Standing, error) {
				<-ctx.Done()
				return identity.Standing{}, ctx.Err()
			}, context.WithCancel, "unavailable",
		},
		{
			"one that answers after the end", func(ctx context.Context, _ identity.UserID, _ identity.SessionID, _ identity.CompanyID) (identity.Standing, error) {
				<-ctx.Done()
				return member(), nil
			}, context.WithCancel, "unavailable",
		},
		{
			"a caller who is gone", saying(member()), func(ctx context.Context) (context.Context, context.CancelFunc) {
				ctx, cancel := context.WithCancel(ctx)
				cancel()
				return ctx, cancel
			}, "unavailable",
		},
		{
			"one that panics", func(context.Context, identity.UserID, identity.SessionID, identity.CompanyID) (identity.Standing, error) {
				panic("boom")
			},
			context.WithCancel, "internal",
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			o := options(t, token.Rules{}, c.user)
			o.LookupTimeout = 5 * time.Millisecond
			ctx, cancel := c.ctx(context.Background())
			defer cancel()
			out := ask(ctx, t, newGate(t, o), request(inCompany()))
			if reason(out) != c.want || out.GetErrorResponse() == nil {
				t.Errorf("got %v, want %s", out, c.want)
			}
		})
	}
}

type verifier func(string, time.Time) (identity.Credential, error)

func (v verifier) Verify(raw string, now time.Time) (identity.Credential, error) { return v(raw, now) }

// handler is a log that hands its records on.
type handler func(slog.Record)

func (h handler) Enabled(context.Context, slog.Level) bool { return true }
func (h handler) WithAttrs([]slog.Attr) slog.Handler       { return h }
func (h handler) WithGroup(string) slog.Handler            { return h }
func (h handler) Handle(_ context.Context, r slog.Record) error {
	h(r)
	return nil
}

func TestAFaultOfOursIsARefusal(t *testing.T) {
	cases := []struct {
		name string
		gate func(*authz.Options)
	}{
		{"a verifier that panics", func(o *authz.Options) {
			o.Verifier = verifier(func(string, time.Time) (identity.Credential, error) { panic("boom") })
		}},
		{"a verifier with an error of its own", func(o *authz.Options) {
			o.Verifier = verifier(func(string, time.Time) (identity.Credential, error) {
				return identity.Credential{}, errors.New("no problem of the table")
			})
		}},
		{"a log that panics", func(o *authz.Options) { o.Logger = slog.New(handler(func(slog.Record) { panic("boom") })) }},
		{"a clock that panics", func(o *authz.Options) { o.Clock = func() time.Time { panic("boom") } }},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			o := options(t, token.Rules{}, saying(member()))
			c.gate(&o)
			out := check(t, newGate(t, o), request(inCompany()))
			if out.GetStatus().GetCode() == 0 || out.GetErrorResponse().GetStatus().GetCode() != 500 || reason(out) != "internal" {
				t.Errorf("got %v", out)
			}
		})
	}
}

func TestNewRefusesAGateThatCouldNotDecide(t *testing.T) {
	for name, spoil := range map[string]func(*authz.Options){
		"no verifier":         func(o *authz.Options) { o.Verifier = nil },
		"no directory":        func(o *authz.Options) { o.Directory = nil },
		"no registry":         func(o *authz.Options) { o.Registerer = nil },
		"no logger":           func(o *authz.Options) { o.Logger = nil },
		"a negative time-out": func(o *authz.Options) { o.LookupTimeout = -1 },
	} {
		o := options(t, token.Rules{}, saying(member()))
		spoil(&o)
		if _, err := authz.New(o); err == nil {
			t.Errorf("%s: a gate was made", name)
		}
	}
	o := options(t, token.Rules{}, saying(member()))
	newGate(t, o)
	if _, err := authz.New(o); err == nil {
		t.Error("two gates share one registry's metrics")
	}
}
