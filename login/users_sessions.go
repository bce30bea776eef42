package login

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/problem"
)

const sessionsPath = "/api/v1/users/me/sessions"

// freshLogin is how long after a password was proved another login may be ended
// without proving it once more: a stolen token must not lock its owner out.
const freshLogin = 10 * time.Minute

var (
	errSessionNotFound = &problem.Problem{Reason: "session_not_found", Status: http.StatusNotFound, Detail: "Session not found."}
	errStaleLogin      = &problem.Problem{Reason: "stale_login", Status: http.StatusForbidden, Detail: "Log in again, or give the current password."}
)

// shownSession is one login as its user sees it.
type shownSession struct {
	ID         string  `json:"id"`
	CreatedAt  string  `json:"created_at"`
	LastSeenAt string  `json:"last_seen_at"` // when it began, or was last refreshed
	ExpiresAt  string  `json:"expires_at"`   // its absolute end
	IP         *string `json:"ip"`
	UserAgent  *string `json:"user_agent"`
	Current    bool    `json:"current"` // the one that asks
}

// shownSessions is the answer of GET /api/v1/users/me/sessions.
type shownSessions struct {
	Sessions []shownSession `json:"sessions"` // the newest first
}

// listSessions is GET /api/v1/users/me/sessions.
func (s *Service) listSessions(ctx context.Context, x *exchange) (answer, error) {
	credential, err := s.bearer(x)
	if err != nil {
		return answer{}, err
	}
	if err := s.stands(ctx, credential); err != nil {
		return answer{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	found, err := s.with.Sessions.ListSessions(ctx, credential.User, false)
	if err != nil {
		return answer{}, unanswered(err)
	}
	shown := shownSessions{Sessions: make([]shownSession, 0, len(found))}
	for _, one := range found {
		view := shownSession{
			ID:         one.ID.String(),
			CreatedAt:  one.CreatedAt.UTC().Format(time.RFC3339),
			LastSeenAt: one.LastSeenAt.UTC().Format(time.RFC3339),
			ExpiresAt:  one.NotAfter.UTC().Format(time.RFC3339),
			UserAgent:  orNull(one.Client.UserAgent),
			Current:    credential.HasSession && one.ID == credential.Session,
		}
		if one.Client.Address.IsValid() {
			view.IP = orNull(one.Client.Address.String())
		}
		shown.Sessions = append(shown.Sessions, view)
	}
	return answer{status: http.StatusOK, result: "ok", body: shown}, nil
}

// stands judges a token against what the database says now.
func (s *Service) stands(ctx context.Context, c identity.Credential) error {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	standing, err := s.with.Directory.Standing(ctx, c.User, c.Session, identity.CompanyID{})
	if err != nil {
		return unanswered(err)
	}
	return s.admit(c, standing, s.with.Now())
}

// sessionRoutes are those of the path of one session, and notes its id.
func (s *Service) sessionRoutes(x *exchange) []route {
	text, below := strings.CutPrefix(x.r.URL.Path, sessionsPath+"/")
	if !below {
		return nil
	}
	var err error
	if x.session, err = identity.ParseSessionID(text); err != nil {
		return nil
	}
	return []route{{name: routeEndSession, method: http.MethodDelete, serve: s.endSession}}
}

// endSession is DELETE /api/v1/users/me/sessions/{id}. The session that asks may
// always end; another one where the password was proved lately, or is proved here.
func (s *Service) endSession(ctx context.Context, x *exchange) (answer, error) {
	credential, err := s.acting(ctx, x)
	if err != nil {
		return answer{}, err
	}
	body, err := x.readBody()
	if err != nil {
		return answer{}, err
	}
	words, err := readCurrentPassword(body)
	if err != nil {
		return answer{}, err
	}
	now := s.with.Now()
	own := credential.HasSession && credential.Session == x.session
	proved := false
	if words != "" && !own {
		if err := s.prove(ctx, x, credential, words, now); err != nil {
			return answer{}, err
		}
		proved = true
	}
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	ended, err := s.with.Sessions.EndOwnSession(ctx, identity.EndRequest{
		User: credential.User, Session: credential.Session, Target: x.session,
		Admit: func(standing identity.Standing) error {
			if err := s.admit(credential, standing, now); err != nil {
				return err
			}
			fresh := credential.HasSession && now.Sub(standing.Session.AuthTime) < freshLogin
			if !own && !proved && !fresh {
				return errStaleLogin
			}
			return nil
		},
	})
	switch {
	case errors.Is(err, identity.ErrNotFound):
		return answer{}, errSessionNotFound
	case err != nil:
		return answer{}, unadmitted(err)
	}
	if ended {
		s.metrics.ended.WithLabelValues(endedLogout).Inc()
	}
	waitUntil(ctx, time.Now().Add(hearing))
	return answer{status: http.StatusNoContent, result: endedLogout}, nil
}

// prove is the current password of whoever asks, in the time that a login takes and
// counted as one.
func (s *Service) prove(ctx context.Context, x *exchange, c identity.Credential, words string, now time.Time) error {
	account, err := s.ownAccount(ctx, c, now)
	if err != nil {
		return err
	}
	turn, err := s.reserve(ctx, x, account.Email)
	if err != nil {
		return err
	}
	defer turn.end(ctx)
	permit, err := s.with.Passwords.Admit(ctx)
	if err != nil {
		return unanswered(err)
	}
	defer permit.Release()
	if !permit.Verify(account.PasswordHash, words).OK {
		s.noteFailure(ctx, account, false)
		return refuse(ctx, permit, turn, account.ID, errWrongPassword)
	}
	turn.proved(account.ID)
	return nil
}

// readCurrentPassword is of an optional body.
func readCurrentPassword(body []byte) (string, error) {
	m, err := decode(body, "current_password")
	if err != nil {
		return "", err
	}
	var wrong faults
	words, ok := m.optional("current_password", "string_type", "Input should be a valid string", &wrong)
	switch {
	case !ok:
	case utf8.RuneCountInString(words) > longestPassword:
		wrong.tooLong("current_password")
	case strings.IndexByte(words, 0) >= 0:
		wrong.holdsNUL("current_password")
	}
	return words, wrong.err()
}
