package problem_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/atenex/gatehouse/internal/problem"
)

// The texts are a promise to clients of the replaced gateways; this is the
// second copy on purpose.
func TestWhatAStrangerSees(t *testing.T) {
	cases := []struct {
		problem *problem.Problem
		status  int
		detail  string
		auth    string
	}{
		{problem.NotAuthenticated, 401, "Not authenticated", `Bearer`},
		{problem.TokenMalformed, 401, "Invalid token format or structure.", `Bearer error="invalid_token", error_description="Malformed token"`},
		{problem.TokenSignature, 401, "Invalid token signature.", `Bearer error="invalid_token", error_description="Invalid signature"`},
		{problem.TokenExpired, 401, "Token has expired.", `Bearer error="invalid_token", error_description="The token has expired"`},
		{problem.TokenNotYetValid, 401, "Token is not yet valid.", `Bearer error="invalid_token", error_description="Token not yet valid"`},
		{problem.TokenAudience(`a"<b>`), 401, `Invalid token audience. Expected 'a"<b>'.`, `Bearer error="invalid_token", error_description="Invalid audience"`},
		{problem.TokenIssuer, 401, "Invalid token issuer.", `Bearer error="invalid_token", error_description="Invalid issuer"`},
		{problem.TokenRole, 401, "Invalid token role.", `Bearer error="invalid_token"`},
		{problem.ClaimsMissing("aud", "exp"), 401, "Token missing required claims: aud, exp", `Bearer error="invalid_token"`},
		{problem.SubjectMissing, 401, "Token missing 'sub' (user ID) claim.", `Bearer error="invalid_token"`},
		{problem.SubjectInvalid, 401, "Invalid user ID format in token.", `Bearer error="invalid_token"`},
		{problem.CompanyInvalid, 401, "Invalid company ID format in token.", `Bearer error="invalid_token"`},
		{problem.UserNotFound, 401, "User associated with token not found.", `Bearer error="invalid_token"`},
		{problem.UserInactive, 401, "User associated with token is inactive.", `Bearer error="invalid_token"`},
		{problem.TokenRevoked, 401, "Token has been revoked.", `Bearer error="invalid_token", error_description="The token has been revoked"`},
		{problem.CompanyMissing, 403, "User authenticated, but required company association is missing or invalid in token.", `Bearer error="insufficient_scope"`},
		{problem.CompanyLeft, 403, "User is no longer associated with the company in this token.", `Bearer error="insufficient_scope"`},
		{problem.CompanySuspended, 403, "Company is suspended.", `Bearer error="insufficient_scope"`},
		{problem.RoleInsufficient, 403, "Insufficient role for this route.", `Bearer error="insufficient_scope"`},
		{problem.Unavailable, 503, "Authorization is temporarily unavailable.", ``},
		{problem.Internal, 500, "An internal error occurred during token verification.", ``},
	}
	for _, c := range cases {
		t.Run(c.problem.Reason, func(t *testing.T) {
			if c.problem.Status != c.status || c.problem.Challenge != c.auth {
				t.Errorf("got %d %q, want %d %q", c.problem.Status, c.problem.Challenge, c.status, c.auth)
			}
			var body map[string]string
			if err := json.Unmarshal(c.problem.Body(), &body); err != nil || len(body) != 1 || body["detail"] != c.detail {
				t.Errorf("body = %s (%v), want only detail %q", c.problem.Body(), err, c.detail)
			}
		})
	}
	if got, want := len(problem.Decisions()), len(cases); got != want {
		t.Errorf("Decisions lists %d problems, the table above %d", got, want)
	}
}

func TestReasonsAreDistinct(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range problem.Decisions() {
		if seen[p.Reason] {
			t.Errorf("reason %q stands for two problems", p.Reason)
		}
		seen[p.Reason] = true
	}
}

func TestAnErrorWithoutAProblemIsAFault(t *testing.T) {
	if got := problem.From(errors.New("surprise")); got != problem.Internal {
		t.Errorf("From = %v, want %v", got, problem.Internal)
	}
}

func TestACauseIsForTheLogOnly(t *testing.T) {
	cause := errors.New("dial tcp: refused")
	err := fmt.Errorf("asking: %w", problem.Unavailable.Because(cause))
	if got := problem.From(err); got != problem.Unavailable {
		t.Errorf("From = %v, want %v", got, problem.Unavailable)
	}
	if !errors.Is(err, cause) || !errors.Is(err, problem.Unavailable) {
		t.Error("the cause or the problem is lost")
	}
}
