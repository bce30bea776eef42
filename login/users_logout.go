package login

import (
	"context"
	"net/http"
	"time"

	"github.com/atenex/gatehouse/internal/identity"
)

// logout is POST /api/v1/users/logout. Who asks is settled before the body is
// looked at, and judged again under the lock on their row.
//
// A second logout with the same token is refused like every other use of it: it
// has been revoked. So is one of two at once that comes second.
func (s *Service) logout(ctx context.Context, x *exchange) (answer, error) {
	credential, err := s.acting(ctx, x)
	if err != nil {
		return answer{}, err
	}
	body, err := x.readBody()
	if err != nil {
		return answer{}, err
	}
	scope, err := readScope(body)
	if err != nil {
		return answer{}, err
	}
	now := s.with.Now()
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	ended, err := s.with.Sessions.EndSessions(ctx, identity.LogoutRequest{
		User:    credential.User,
		Session: credential.Session,
		Scope:   scope,
		Admit:   func(standing identity.Standing) error { return s.admit(credential, standing, now) },
	})
	if err != nil {
		return answer{}, unadmitted(err)
	}
	reason := endedLogoutAll
	if scope == identity.LogoutLocal {
		reason = endedLogout
	}
	s.metrics.ended.WithLabelValues(reason).Add(float64(ended))
	waitUntil(ctx, time.Now().Add(hearing))
	return answer{status: http.StatusNoContent, result: reason}, nil
}

// hearing is how long an answer that ended logins is held back: the notice of it
// reaches every authz within a millisecond or so, and a client that was told
// must not see its old token pass once more.
const hearing = 25 * time.Millisecond

// readScope reads which logins are to end; none named is the one that asks.
func readScope(body []byte) (identity.LogoutScope, error) {
	m, err := decode(body, "scope")
	if err != nil {
		return 0, err
	}
	var wrong faults
	text, ok := m.optional("scope", "string_type", "Input should be a valid string", &wrong)
	scope := identity.LogoutLocal
	switch {
	case !ok, text == "local":
	case text == "others":
		scope = identity.LogoutOthers
	case text == "global":
		scope = identity.LogoutGlobal
	default:
		wrong.add("scope", "literal_error", "Input should be 'local', 'others' or 'global'")
	}
	return scope, wrong.err()
}
