package login

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/problem"
)

const refreshPath = "/api/v1/users/token/refresh"

// longestRefresh bounds a refresh token, in bytes; ours are shorter.
const longestRefresh = 256

// refreshing is what an answer says of a refresh token, where there is one.
type refreshing struct {
	RefreshToken     string `json:"refresh_token,omitempty"`
	RefreshExpiresIn int64  `json:"refresh_expires_in,omitempty"` // seconds
}

func refreshingWith(t identity.RefreshToken, now time.Time) refreshing {
	if t.Secret == "" {
		return refreshing{}
	}
	return refreshing{t.Secret, max(0, t.ExpiresAt.Unix()-now.Unix())}
}

// refreshed is the answer of POST /api/v1/users/token/refresh.
type refreshed struct {
	AccessToken string `json:"access_token"`
	TokenType   string `json:"token_type"`
	ExpiresIn   int64  `json:"expires_in"` // seconds
	refreshing
}

// errRefresh is one text for every cause: who holds a token that is not good any more
// learns nothing of why.
var errRefresh = &problem.Problem{Reason: "bad_refresh_token", Status: http.StatusUnauthorized, Detail: "Invalid refresh token.", Challenge: `Bearer error="invalid_token"`}

// refresh is POST /api/v1/users/token/refresh. It needs no access token: the refresh
// token says whose session goes on. Nothing is counted against guessing, since 256
// random bits are not guessed; Envoy limits how often one address may ask.
func (s *Service) refresh(ctx context.Context, x *exchange) (answer, error) {
	if s.with.RefreshIdle <= 0 {
		return answer{}, errNotFound
	}
	body, err := x.readBody()
	if err != nil {
		return answer{}, err
	}
	secret, err := readRefresh(body)
	if err != nil {
		return answer{}, err
	}
	now := s.with.Now()
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	going, err := s.with.Sessions.Refresh(ctx, identity.RefreshRequest{
		Secret: secret,
		Idle:   s.with.RefreshIdle,
		Admit: func(user identity.UserID, session identity.SessionID, standing identity.Standing) error {
			x.user = user
			// As a token of the session would be judged that names a key of ours.
			return s.admitToMint(identity.Credential{User: user, Session: session, HasSession: true, KeyNamed: true}, standing, now)
		},
	})
	var refused *problem.Problem
	switch {
	case errors.Is(err, identity.ErrRefreshReused):
		s.metrics.ended.WithLabelValues(endedRefreshReuse).Inc()
		s.with.Logger.LogAttrs(ctx, slog.LevelWarn, "a refresh token came once more long after it was used, so that somebody has stolen it; its session was ended",
			slog.String("user_id", going.User.ID.String()), slog.String("session_id", going.ID.String()))
		return answer{}, errRefresh.Because(err)
	case errors.Is(err, identity.ErrRefreshRefused), errors.As(err, &refused), errors.Is(err, identity.ErrNotFound):
		return answer{}, errRefresh.Because(err)
	case err != nil:
		return answer{}, unanswered(err)
	}
	x.company = going.User.Company
	minted, err := s.with.Issuer.Issue(grantTo(going), now)
	if err != nil {
		return answer{}, err
	}
	return answer{status: http.StatusOK, result: "refreshed", body: refreshed{
		AccessToken: minted.Token,
		TokenType:   "bearer",
		ExpiresIn:   minted.ExpiresAt.Unix() - now.Unix(),
		refreshing:  refreshingWith(going.Refresh, now),
	}}, nil
}

func readRefresh(body []byte) (string, error) {
	m, err := decode(body, "refresh_token")
	if err != nil {
		return "", err
	}
	if m == nil {
		return "", wrongBody("missing", "Field required")
	}
	var wrong faults
	secret, ok := m.required("refresh_token", &wrong)
	if ok && len(secret) > longestRefresh {
		wrong.add("refresh_token", "string_too_long", "String should have at most 256 characters")
	}
	return secret, wrong.err()
}
