package login

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"

	"github.com/atenex/gatehouse/internal/password"
	"github.com/atenex/gatehouse/internal/problem"
)

// The refusals of this service, beside those of tokens in package problem.
var (
	errNotFound    = &problem.Problem{Reason: "not_found", Status: http.StatusNotFound, Detail: "Not Found"}
	errMethod      = &problem.Problem{Reason: "method", Status: http.StatusMethodNotAllowed, Detail: "Method Not Allowed"}
	errContentType = &problem.Problem{Reason: "content_type", Status: http.StatusUnsupportedMediaType, Detail: "Content-Type must be application/json."}
	errTooLarge    = &problem.Problem{Reason: "too_large", Status: http.StatusRequestEntityTooLarge, Detail: "Request body too large."}
	errTooSlow     = &problem.Problem{Reason: "too_slow", Status: http.StatusRequestTimeout, Detail: "Request body took too long."}
	errBody        = &problem.Problem{Reason: "body", Status: http.StatusBadRequest, Detail: "Request body could not be read."}
	errInvalid     = &problem.Problem{Reason: "invalid", Status: http.StatusUnprocessableEntity}

	errBadCredentials = &problem.Problem{Reason: "bad_credentials", Status: http.StatusUnauthorized, Detail: "Incorrect email or password", Challenge: "Bearer"}

	errThrottled = &problem.Problem{Reason: "throttled", Status: http.StatusTooManyRequests, Detail: "Too many requests.", RetryAfter: 1}

	errRegistrationOff  = &problem.Problem{Reason: "registration_off", Status: http.StatusForbidden, Detail: "Registration is disabled."}
	errRegistrationData = &problem.Problem{Reason: "registration_data", Status: http.StatusBadRequest, Detail: "The registration was refused."}
	errEmailTaken       = &problem.Problem{Reason: "email_taken", Status: http.StatusConflict, Detail: "A user with this email already exists."}
	// errNoDefaultCompany is told with the company's name.
	errNoDefaultCompany = &problem.Problem{Reason: "no_default_company", Status: http.StatusBadRequest, Detail: "Required default company configuration not found."}
	// errBusy is another service's refusal, which says not for how long.
	errBusy = &problem.Problem{Reason: "throttled", Status: http.StatusTooManyRequests, Detail: "Too many requests.", RetryAfter: 60}

	errWrongPassword = &problem.Problem{Reason: "wrong_password", Status: http.StatusBadRequest, Detail: "Current password is incorrect."}

	errNoCompany      = &problem.Problem{Reason: "no_company", Status: http.StatusBadRequest, Detail: "Cannot associate company: No company ID provided and no default is configured for the gateway."}
	errJoinRefused    = &problem.Problem{Reason: "join_refused", Status: http.StatusForbidden, Detail: "You are not allowed to join this company."}
	errUnknownCompany = &problem.Problem{Reason: "unknown_company", Status: http.StatusNotFound, Detail: "Company not found."}

	errNotAdmin           = &problem.Problem{Reason: "not_admin", Status: http.StatusForbidden, Detail: "You are not allowed to invite people to this company."}
	errRoleRefused        = &problem.Problem{Reason: "role_refused", Status: http.StatusForbidden, Detail: "You are not allowed to give this role."}
	errMember             = &problem.Problem{Reason: "member", Status: http.StatusConflict, Detail: "This user is a member of the company already."}
	errInvited            = &problem.Problem{Reason: "invited", Status: http.StatusConflict, Detail: "This address has an open invitation already."}
	errManyInvitations    = &problem.Problem{Reason: "many_invitations", Status: http.StatusConflict, Detail: "The company has too many open invitations."}
	errInvitationNotFound = &problem.Problem{Reason: "invitation_not_found", Status: http.StatusNotFound, Detail: "Invitation not found."}

	errUnavailable = &problem.Problem{Reason: "unavailable", Status: http.StatusServiceUnavailable, Detail: "Service is temporarily unavailable.", RetryAfter: 1}
	errOverloaded  = &problem.Problem{Reason: "overloaded", Status: http.StatusServiceUnavailable, Detail: "Service is temporarily unavailable.", RetryAfter: 1}
	errInternal    = &problem.Problem{Reason: "internal", Status: http.StatusInternalServerError, Detail: "Internal Server Error"}

	// errGone is for the log alone: nobody is there to read it. The status is
	// nginx's for the same.
	errGone = &problem.Problem{Reason: "client_gone", Status: 499, Detail: "Client closed the request."}
)

// unanswered is the refusal when a part that was asked did not answer. Whose
// fault it was decides who gets paged.
func unanswered(err error) error {
	switch {
	case errors.Is(err, password.ErrBusy):
		// Spread out, or those who were refused together return together.
		p := *errOverloaded
		p.RetryAfter = 1 + rand.IntN(3) //nolint:gosec // spreads clients out, no secret
		return &p
	case errors.Is(err, context.Canceled):
		return errGone.Because(err)
	default:
		return errUnavailable.Because(err)
	}
}
