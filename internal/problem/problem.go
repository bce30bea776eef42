// Package problem is the one table of refusals: what went wrong, which status
// and text a stranger sees, which challenge goes with it and under which name
// it is counted. authz and login both answer from it.
//
// It must never hold a value that came from a request beyond the configured
// audience: nothing that a client sends is echoed.
package problem

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
)

// Problem is one refusal. Compare with errors.Is: two problems are the same
// when their Reason is.
type Problem struct {
	Reason    string // closed set: the metric label and the log field
	Status    int    // HTTP status
	Detail    string // what the client reads
	Challenge string // WWW-Authenticate (RFC 6750 section 3), empty for none
	// RetryAfter is in seconds (RFC 9110 section 10.2.3), 0 for none.
	RetryAfter int
}

func (p *Problem) Error() string { return p.Detail }

// Is makes errors.Is compare by Reason, so that a problem with a text of its
// own (TokenAudience, MissingClaims) still matches its kind.
func (p *Problem) Is(target error) bool {
	t, ok := target.(*Problem)
	return ok && t.Reason == p.Reason
}

// Body is the JSON object that clients of the replaced gateways read.
func (p *Problem) Body() []byte {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	// A struct of one string always encodes.
	_ = enc.Encode(struct {
		Detail string `json:"detail"`
	}{p.Detail})
	return []byte(strings.TrimSuffix(b.String(), "\n"))
}

// IsFault reports that the gate could not decide, as opposed to deciding no.
func (p *Problem) IsFault() bool { return p.Status >= http.StatusInternalServerError }

// Because attaches the cause that our log needs and a stranger must not see.
func (p *Problem) Because(cause error) error { return &caused{p, cause} }

type caused struct {
	problem *Problem
	cause   error
}

func (c *caused) Error() string   { return c.problem.Detail + ": " + c.cause.Error() }
func (c *caused) Unwrap() []error { return []error{c.problem, c.cause} }

// From finds the problem in err. An error that carries none is an internal
// fault: doubt refuses.
func From(err error) *Problem {
	var p *Problem
	if errors.As(err, &p) {
		return p
	}
	return Internal
}

const (
	invalidToken      = `Bearer error="invalid_token"`
	insufficientScope = `Bearer error="insufficient_scope"`
)

func unauthorized(reason, detail, description string) *Problem {
	challenge := invalidToken
	if description != "" {
		challenge += `, error_description="` + description + `"`
	}
	return &Problem{Reason: reason, Status: http.StatusUnauthorized, Detail: detail, Challenge: challenge}
}

func forbidden(reason, detail string) *Problem {
	return &Problem{Reason: reason, Status: http.StatusForbidden, Detail: detail, Challenge: insufficientScope}
}

// The refusals of a decision, in the order in which they are judged.
var (
	NotAuthenticated = &Problem{Reason: "not_authenticated", Status: http.StatusUnauthorized, Detail: "Not authenticated", Challenge: "Bearer"}

	TokenMalformed   = unauthorized("token_malformed", "Invalid token format or structure.", "Malformed token")
	TokenSignature   = unauthorized("token_signature", "Invalid token signature.", "Invalid signature")
	TokenExpired     = unauthorized("token_expired", "Token has expired.", "The token has expired")
	TokenNotYetValid = unauthorized("token_not_yet_valid", "Token is not yet valid.", "Token not yet valid")
	tokenAudience    = unauthorized("token_audience", "Invalid token audience.", "Invalid audience")
	TokenIssuer      = unauthorized("token_issuer", "Invalid token issuer.", "Invalid issuer")
	TokenRole        = unauthorized("token_role", "Invalid token role.", "")
	claimsMissing    = unauthorized("claims_missing", "Token missing required claims.", "")
	SubjectMissing   = unauthorized("subject_missing", "Token missing 'sub' (user ID) claim.", "")
	SubjectInvalid   = unauthorized("subject_invalid", "Invalid user ID format in token.", "")
	CompanyInvalid   = unauthorized("company_invalid", "Invalid company ID format in token.", "")

	UserNotFound = unauthorized("user_not_found", "User associated with token not found.", "")
	UserInactive = unauthorized("user_inactive", "User associated with token is inactive.", "")
	TokenRevoked = unauthorized("token_revoked", "Token has been revoked.", "The token has been revoked")

	CompanyMissing   = forbidden("company_missing", "User authenticated, but required company association is missing or invalid in token.")
	CompanyLeft      = forbidden("company_left", "User is no longer associated with the company in this token.")
	CompanySuspended = forbidden("company_suspended", "Company is suspended.")
	RoleInsufficient = forbidden("role_insufficient", "Insufficient role for this route.")

	Unavailable = &Problem{Reason: "unavailable", Status: http.StatusServiceUnavailable, Detail: "Authorization is temporarily unavailable.", RetryAfter: 1}
	Internal    = &Problem{Reason: "internal", Status: http.StatusInternalServerError, Detail: "An internal error occurred during token verification."}
)

// TokenAudience names the audience that was asked for, which is a setting and
// no secret.
func TokenAudience(want string) *Problem {
	p := *tokenAudience
	p.Detail = "Invalid token audience. Expected '" + want + "'."
	return &p
}

// ClaimsMissing names the required claims that the token lacks, in the order
// given.
func ClaimsMissing(names ...string) *Problem {
	p := *claimsMissing
	p.Detail = "Token missing required claims: " + strings.Join(names, ", ")
	return &p
}

// Decisions lists every problem that a decision can end in, so that metrics can
// start each of them at zero.
func Decisions() []*Problem {
	return []*Problem{
		NotAuthenticated,
		TokenMalformed, TokenSignature, TokenExpired, TokenNotYetValid, tokenAudience, TokenIssuer, TokenRole,
		claimsMissing, SubjectMissing, SubjectInvalid, CompanyInvalid,
		UserNotFound, UserInactive, TokenRevoked,
		CompanyMissing, CompanyLeft, CompanySuspended, RoleInsufficient,
		Unavailable, Internal,
	}
}
