package postgres

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/atenex/gatehouse/internal/identity"
)

// A refresh token is 256 random bits behind a prefix by which scanners of source
// code and logs know it.
const (
	refreshPrefix = "gatehouse_rt_"
	refreshBytes  = 32
)

const (
	// reuseGrace is how long after its use a refresh token may come once more: several
	// tabs of one browser refresh at the same moment.
	reuseGrace = 10 * time.Second
	// lostAnswer is how long the last one but one may come once more: its answer was
	// lost on the way. Within it, a thief who keeps in step goes unnoticed.
	lostAnswer = 10 * time.Minute
)

type refreshSecret [refreshBytes]byte

func newRefreshSecret() (secret refreshSecret) {
	_, _ = rand.Read(secret[:]) // never fails, see its documentation
	return secret
}

func parseRefreshSecret(text string) (secret refreshSecret, ok bool) {
	body, ok := strings.CutPrefix(text, refreshPrefix)
	if !ok || len(body) != base64.RawURLEncoding.EncodedLen(refreshBytes) {
		return secret, false
	}
	n, err := base64.RawURLEncoding.Strict().Decode(secret[:], []byte(body))
	return secret, err == nil && n == refreshBytes
}

func (r refreshSecret) String() string {
	return refreshPrefix + base64.RawURLEncoding.EncodeToString(r[:])
}

func (r refreshSecret) hash() []byte {
	sum := sha256.Sum256(r[:])
	return sum[:]
}

// seal hides the successor from everybody who has not r, and opens it again. The pad
// is used for this one successor alone.
func (r refreshSecret) seal(successor refreshSecret) (sealed refreshSecret) {
	mac := hmac.New(sha256.New, r[:])
	mac.Write([]byte("gatehouse refresh successor"))
	subtle.XORBytes(sealed[:], mac.Sum(nil), successor[:])
	return sealed
}

// addRefresh makes a secret the live refresh token of a session, after its parent
// (zero: the first one).
func addRefresh(ctx context.Context, tx pgx.Tx, session identity.SessionID, parent int64, secret refreshSecret, idle time.Duration) (identity.RefreshToken, error) {
	var expires pgtype.Timestamptz
	err := tx.QueryRow(ctx, `
		INSERT INTO refresh_tokens (session_id, token_hash, parent_id, created_at, expires_at)
		SELECT s.id, $2, nullif($3::bigint, 0), clock_timestamp(), least(clock_timestamp() + $4::bigint * interval '1 us', s.not_after)
		  FROM sessions s WHERE s.id = $1
		RETURNING expires_at`, uuidOrNull(session), secret.hash(), parent, idle.Microseconds()).Scan(&expires)
	if err != nil {
		return identity.RefreshToken{}, fmt.Errorf("adding a refresh token: %w", err)
	}
	return identity.RefreshToken{Secret: secret.String(), ExpiresAt: instant(expires)}, nil
}

// replaceRefresh takes back all refresh tokens of a session and gives it another one,
// unless idle is zero.
func replaceRefresh(ctx context.Context, tx pgx.Tx, session identity.SessionID, idle time.Duration) (identity.RefreshToken, error) {
	if _, err := tx.Exec(ctx, `DELETE FROM refresh_tokens WHERE session_id = $1`, uuidOrNull(session)); err != nil || idle <= 0 {
		return identity.RefreshToken{}, err
	}
	return addRefresh(ctx, tx, session, 0, newRefreshSecret(), idle)
}

// Refresh uses a refresh token: its session goes on with a successor. Whoever
// presents one that was used within the last 10 s, or within the last 10 minutes if its
// successor was not used yet, gets the same successor again. One that comes later than
// that has been stolen from somebody, and its session is ended, and that session alone.
//
// The request is judged under the lock that it is carried out under; its refusal is
// returned as it is, and uses nothing up.
func (s *Store) Refresh(ctx context.Context, request identity.RefreshRequest) (identity.Login, error) {
	if request.Admit == nil || request.Idle <= 0 {
		return identity.Login{}, errors.New("a refresh without a judge or without a time")
	}
	secret, ok := parseRefreshSecret(request.Secret)
	if !ok {
		return identity.Login{}, identity.ErrRefreshRefused
	}
	var going identity.Login
	reused := false
	err := s.change(ctx, queryRefresh, "refreshing a session", func(tx pgx.Tx) error {
		var id int64
		var session, user pgtype.UUID
		err := tx.QueryRow(ctx, `SELECT t.id, s.id, s.user_id FROM refresh_tokens t JOIN sessions s ON s.id = t.session_id
			WHERE t.token_hash = $1`, secret.hash()).Scan(&id, &session, &user)
		if errors.Is(err, pgx.ErrNoRows) {
			return refusal{identity.ErrRefreshRefused}
		}
		if err != nil {
			return err
		}
		going.ID = identity.SessionID(session.Bytes)
		var standing identity.Standing
		going.User, standing, err = lockUser(ctx, tx, identity.UserID(user.Bytes), going.ID, func(now identity.Standing) error {
			return request.Admit(identity.UserID(user.Bytes), going.ID, now)
		})
		if err != nil {
			return err
		}
		going.AuthTime, going.NotAfter = standing.Session.AuthTime, standing.Session.NotAfter
		going.Refresh, reused, err = rotate(ctx, tx, id, going.ID, secret, request.Idle)
		if err != nil || !reused {
			return err
		}
		const reason = "refresh_reuse"
		ended, err := endSession(ctx, tx, going.User.ID, going.ID, reason)
		if err != nil {
			return err
		}
		who := identity.Event{Name: "refresh.reuse", Outcome: identity.Denied, Subject: going.User.ID, Session: going.ID}
		if err := audit(ctx, tx, who); err != nil || ended == 0 {
			return err
		}
		return auditEnded(ctx, tx, identity.Event{Subject: going.User.ID, Session: going.ID}, reason, ended)
	})
	switch {
	case err != nil:
		return identity.Login{}, err
	case reused:
		return going, identity.ErrRefreshReused
	}
	return going, nil
}

// rotate is Refresh under the lock of the user's row.
func rotate(ctx context.Context, tx pgx.Tx, id int64, session identity.SessionID, secret refreshSecret, idle time.Duration) (next identity.RefreshToken, reused bool, err error) {
	var used, over, recent bool
	var parent pgtype.Bool // NULL of one that was not used
	var sealed []byte
	err = tx.QueryRow(ctx, `
		SELECT t.used_at IS NOT NULL, t.expires_at <= clock_timestamp(), t.sealed,
		       coalesce(t.used_at > clock_timestamp() - $2::bigint * interval '1 us', false),
		       EXISTS (SELECT FROM refresh_tokens live WHERE live.session_id = t.session_id AND live.used_at IS NULL AND live.parent_id = t.id)
		         AND t.used_at > clock_timestamp() - $3::bigint * interval '1 us'
		  FROM refresh_tokens t WHERE t.id = $1`, id, reuseGrace.Microseconds(), lostAnswer.Microseconds()).Scan(&used, &over, &sealed, &recent, &parent)
	switch {
	case errors.Is(err, pgx.ErrNoRows): // swept meanwhile
		return next, false, refusal{identity.ErrRefreshRefused}
	case err != nil:
		return next, false, err
	case used && !recent && !parent.Bool:
		return next, true, nil
	case used:
		var hidden refreshSecret
		if copy(hidden[:], sealed) != refreshBytes {
			return next, false, errors.New("a successor is not of its length")
		}
		return reissue(ctx, tx, secret.seal(hidden))
	case over:
		return next, false, refusal{identity.ErrRefreshRefused}
	}
	successor := newRefreshSecret()
	hidden := secret.seal(successor)
	// It is used first: of a session there is one live token at a time.
	if _, err := tx.Exec(ctx, `UPDATE refresh_tokens SET used_at = clock_timestamp(), sealed = $2 WHERE id = $1`, id, hidden[:]); err != nil {
		return next, false, err
	}
	if next, err = addRefresh(ctx, tx, session, id, successor, idle); err != nil {
		return next, false, err
	}
	_, err = tx.Exec(ctx, `UPDATE sessions SET last_seen_at = clock_timestamp() WHERE id = $1`, uuidOrNull(session))
	return next, false, err
}

// reissue gives the successor that was handed out before, if it is still good.
func reissue(ctx context.Context, tx pgx.Tx, secret refreshSecret) (next identity.RefreshToken, reused bool, err error) {
	var expires pgtype.Timestamptz
	err = tx.QueryRow(ctx, `SELECT expires_at FROM refresh_tokens WHERE token_hash = $1 AND expires_at > clock_timestamp()`,
		secret.hash()).Scan(&expires)
	if errors.Is(err, pgx.ErrNoRows) {
		return next, false, refusal{identity.ErrRefreshRefused}
	}
	return identity.RefreshToken{Secret: secret.String(), ExpiresAt: instant(expires)}, false, err
}

// SweepRefreshTokens deletes refresh tokens that were used more than a week ago or
// whose time has been over for a day, at most SweepLimit, and says how many. One of the
// former that comes again is refused, but no longer known to be stolen.
func (s *Store) SweepRefreshTokens(ctx context.Context) (int, error) {
	swept := 0
	err := s.write(ctx, querySweepRefresh, func(ctx context.Context) error {
		tag, err := s.pool.Exec(ctx, `DELETE FROM refresh_tokens WHERE id IN (
			SELECT id FROM refresh_tokens WHERE used_at < now() - interval '7 days' OR expires_at < now() - interval '1 day' LIMIT $1 FOR UPDATE SKIP LOCKED)`, SweepLimit)
		swept = int(tag.RowsAffected())
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("deleting used refresh tokens: %w", err)
	}
	return swept, nil
}
