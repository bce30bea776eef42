package e2e

import (
	"net/http"
	"slices"
	"testing"
)

// refusal is a row of section 4 of the contract as a client sees it.
type refusal struct {
	status    int
	detail    string
	challenge string
}

func invalid(detail, description string) refusal {
	challenge := `Bearer error="invalid_token"`
	if description != "" {
		challenge += `, error_description="` + description + `"`
	}
	return refusal{http.StatusUnauthorized, detail, challenge}
}

func insufficient(detail string) refusal {
	return refusal{http.StatusForbidden, detail, `Bearer error="insufficient_scope"`}
}

var (
	anonymous       = refusal{http.StatusUnauthorized, "Not authenticated", "Bearer"}
	malformed       = invalid("Invalid token format or structure.", "Malformed token")
	wrongSignature  = invalid("Invalid token signature.", "Invalid signature")
	expired         = invalid("Token has expired.", "The token has expired")
	notYetValid     = invalid("Token is not yet valid.", "Token not yet valid")
	wrongIssuer     = invalid("Invalid token issuer.", "Invalid issuer")
	wrongRole       = invalid("Invalid token role.", "")
	noSubject       = invalid("Token missing 'sub' (user ID) claim.", "")
	wrongSubject    = invalid("Invalid user ID format in token.", "")
	wrongCompany    = invalid("Invalid company ID format in token.", "")
	unknownUser     = invalid("User associated with token not found.", "")
	inactiveUser    = invalid("User associated with token is inactive.", "")
	revoked         = invalid("Token has been revoked.", "The token has been revoked")
	noCompany       = insufficient("User authenticated, but required company association is missing or invalid in token.")
	companyLeft     = insufficient("User is no longer associated with the company in this token.")
	companyOnHold   = insufficient("Company is suspended.")
	roleMissing     = insufficient("Insufficient role for this route.")
	accepted        = refusal{} // no refusal at all
	strictRoute     = "/api/v1/query/decide"
	initialRoute    = "/api/v1/users/me/ensure-company"
	refusesAudience = func(want string) refusal {
		return invalid("Invalid token audience. Expected '"+want+"'.", "Invalid audience")
	}
	refusesMissing = func(names string) refusal {
		return invalid("Token missing required claims: "+names, "")
	}
)

// expect fails the test unless the answer is this refusal to the letter, or,
// where it is accepted, the upstream's.
func (a answer) expect(t testing.TB, want refusal) {
	t.Helper()
	if a.err != nil {
		t.Fatal(a.err)
	}
	if want == accepted {
		if a.status != http.StatusOK {
			t.Errorf("got %d %s, want it to pass", a.status, a.body)
		}
		return
	}
	a.want(t, want.status, want.detail)
	if body := marshal(t, map[string]string{"detail": want.detail}); a.body != body {
		t.Errorf("body = %s, want %s", a.body, body)
	}
	if got := a.header.Values("WWW-Authenticate"); !slices.Equal(got, []string{want.challenge}) {
		t.Errorf("WWW-Authenticate = %q, want %q", got, want.challenge)
	}
}

// decide sends a token to the strict route and looks at the answer and at what
// reached the upstream.
func (s *stack) decide(t *testing.T, raw string, want refusal) {
	t.Helper()
	s.decideHeader(t, bearer(raw), want)
}

func (s *stack) decideHeader(t *testing.T, header http.Header, want refusal) {
	t.Helper()
	s.query.forget()
	s.in(t).get(strictRoute, header).expect(t, want)
	if want != accepted {
		s.query.none(t)
		return
	}
	s.query.only(t)
}
