package postgres

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/atenex/gatehouse/internal/identity"
)

// The clock of sessions and of tokens_valid_after is the database's, read under
// the lock of the user's row (clock_timestamp, not now(), which is the moment at
// which a transaction began to wait for that lock). What took the lock later is
// later: a session that is begun after a revocation survives it and one that was
// begun before does not, however few microseconds lie between, and whatever the
// clocks of the login services say.

// startSessionSQL is one statement. The hash is compared again: a password that
// was changed since it was verified begins nothing.
//
// A mark that lies ahead by no more than a moment was set by a clock that has
// been put back since (a fail-over does it): the login came after it all the
// same. One that lies further ahead is an operator's will.
const startSessionSQL = `
WITH u AS (
  UPDATE users AS u SET last_login = now()
   WHERE u.id = $1 AND u.is_active IS TRUE AND u.hashed_password::text = $2::text AND $2::text <> ''
  RETURNING u.id, u.email, u.full_name, u.role, u.company_id, u.is_active, u.created_at, u.last_login,
            u.tokens_valid_after, clock_timestamp() AS at),
s AS (
  INSERT INTO sessions (id, user_id, auth_time, valid_from, created_at, last_seen_at, not_after, company_id, ip, user_agent)
  SELECT $3::uuid, u.id, u.at,
         CASE WHEN u.tokens_valid_after > u.at AND u.tokens_valid_after < u.at + interval '5 s' THEN u.tokens_valid_after ELSE u.at END,
         u.at, u.at, u.at + $4::bigint * interval '1 us', u.company_id, $5::inet, $6::text
    FROM u
  RETURNING auth_time, not_after),
recorded AS (
  INSERT INTO audit_log (event, outcome, actor_user, subject_user, company_id, session_id, ip, request_id)
  SELECT 'login.success', 'success', u.id, u.id, u.company_id, $3::uuid, $5::inet, $7::text FROM u)
SELECT ` + userColumns + `, s.auth_time, s.not_after FROM u CROSS JOIN s`

// StartSession begins a session of a user whose password was just proved, and
// sets last_login. identity.ErrChanged: the user is gone, not active, or has
// another hash than the one that was verified; nothing was written.
func (s *Store) StartSession(ctx context.Context, request identity.LoginRequest) (identity.Login, error) {
	if !storable(request.PasswordHash) {
		return identity.Login{}, ErrBadText
	}
	login, err := newLogin()
	if err != nil {
		return identity.Login{}, err
	}
	err = s.change(ctx, queryStartSession, "starting a session", func(tx pgx.Tx) error {
		err := login.scan(tx.QueryRow(ctx, startSessionSQL, uuidOrNull(request.User), request.PasswordHash,
			uuidOrNull(login.ID), request.Lifetime.Microseconds(), addressOrNull(request.Client.Address), userAgent(request.Client),
			plainOrNull(identity.OriginOf(ctx).RequestID)))
		if errors.Is(err, pgx.ErrNoRows) {
			return refusal{identity.ErrChanged}
		}
		if err != nil || request.RefreshIdle <= 0 {
			return err
		}
		login.Refresh, err = addRefresh(ctx, tx, login.ID, 0, newRefreshSecret(), request.RefreshIdle)
		return err
	})
	if err != nil {
		return identity.Login{}, err
	}
	return login.Login, nil
}

// login is a session that is being written.
type login struct{ identity.Login }

func newLogin() (login, error) {
	id, err := uuid.NewRandom()
	if err != nil {
		return login{}, fmt.Errorf("making a session id: %w", err)
	}
	return login{identity.Login{ID: identity.SessionID(id)}}, nil
}

// scan reads userColumns, auth_time and not_after.
func (l *login) scan(row pgx.Row) error {
	var authTime, notAfter pgtype.Timestamptz
	user, err := scanUser(row, &authTime, &notAfter)
	if err != nil {
		return err
	}
	l.User, l.AuthTime, l.NotAfter = user, instant(authTime), instant(notAfter)
	return nil
}

// EndSessions ends logins of a user and says how many sessions that were. The
// request is judged under the lock that it is carried out under; its refusal is
// returned as it is.
func (s *Store) EndSessions(ctx context.Context, request identity.LogoutRequest) (int, error) {
	if request.Admit == nil {
		return 0, errors.New("a logout without a judge")
	}
	ended := 0
	err := s.change(ctx, queryEndSessions, "ending sessions", func(tx pgx.Tx) error {
		_, _, err := lockUser(ctx, tx, request.User, request.Session, request.Admit)
		if err != nil {
			return err
		}
		reason := "logout_all"
		switch {
		case request.Scope == identity.LogoutGlobal:
			ended, err = revoke(ctx, tx, request.User, identity.SessionID{}, reason)
		case request.Scope == identity.LogoutOthers:
			ended, err = revoke(ctx, tx, request.User, request.Session, reason)
		case request.Session.IsZero():
			reason = "logout"
			err = revokeSessionless(ctx, tx, request.User)
		default:
			reason = "logout"
			ended, err = endSession(ctx, tx, request.User, request.Session, reason)
		}
		if err != nil {
			return err
		}
		return auditEnded(ctx, tx, identity.Event{Actor: request.User, Subject: request.User, Session: request.Session}, reason, ended)
	})
	return ended, err
}

// auditEnded records that sessions were ended, in one record however many they
// were. Tokens without a session are ended by some acts too, and are not counted.
func auditEnded(ctx context.Context, tx pgx.Tx, who identity.Event, reason string, ended int) error {
	who.Name, who.Details = "session.ended", map[string]any{"reason": reason, "sessions": ended}
	return audit(ctx, tx, who)
}

// endSession ends one session.
func endSession(ctx context.Context, tx pgx.Tx, user identity.UserID, session identity.SessionID, reason string) (int, error) {
	tag, err := tx.Exec(ctx, `UPDATE sessions SET ended_at = clock_timestamp(), end_reason = $3
		WHERE id = $2 AND user_id = $1 AND ended_at IS NULL`, uuidOrNull(user), uuidOrNull(session), reason)
	return int(tag.RowsAffected()), err
}

// revoke ends every login of a user but the session that is kept (zero: none),
// and all tokens without a session. The user's row must be locked, so that no
// login can write a session that this statement does not see.
//
// The mark never goes back: what an earlier one refused stays refused. The kept
// session begins anew at the mark itself, and so survives it exactly.
func revoke(ctx context.Context, tx pgx.Tx, user identity.UserID, keep identity.SessionID, reason string) (int, error) {
	var ended int
	err := tx.QueryRow(ctx, `
		WITH mark AS (
		  UPDATE users SET tokens_valid_after = greatest(clock_timestamp(), tokens_valid_after) WHERE id = $1
		  RETURNING tokens_valid_after AS at),
		kept AS (
		  UPDATE sessions s SET valid_from = mark.at FROM mark WHERE s.user_id = $1 AND s.id = $2::uuid),
		ended AS (
		  UPDATE sessions s SET ended_at = mark.at, end_reason = $3::text FROM mark
		   WHERE s.user_id = $1 AND s.id IS DISTINCT FROM $2::uuid AND s.ended_at IS NULL
		  RETURNING s.not_after > clock_timestamp() AS live)
		SELECT count(*) FILTER (WHERE live) FROM ended`,
		uuidOrNull(user), uuidOrNull(keep), reason).Scan(&ended)
	return ended, err
}

// revokeSessionless ends all tokens of a user that have no session, and nothing
// else: the sessions that the user's mark let pass so far begin anew at the new
// one. Those that it did not let pass stay where they are.
func revokeSessionless(ctx context.Context, tx pgx.Tx, user identity.UserID) error {
	_, err := tx.Exec(ctx, `
		WITH before AS (SELECT tokens_valid_after AS at FROM users WHERE id = $1),
		mark AS (
		  UPDATE users SET tokens_valid_after = greatest(clock_timestamp(), tokens_valid_after) WHERE id = $1
		  RETURNING tokens_valid_after AS at)
		UPDATE sessions s SET valid_from = mark.at FROM mark, before
		 WHERE s.user_id = $1 AND s.ended_at IS NULL AND (before.at IS NULL OR s.valid_from >= before.at)`,
		uuidOrNull(user))
	return err
}

// ChangePassword stores a new password and ends all logins but the session that
// asks; a token without one gets a session. It says how many sessions ended.
// identity.ErrChanged: the hash is no longer the old one.
func (s *Store) ChangePassword(ctx context.Context, request identity.PasswordChange) (identity.Login, int, error) {
	if request.Admit == nil {
		return identity.Login{}, 0, errors.New("a change of a password without a judge")
	}
	if !storable(request.OldHash) || !storable(request.NewHash) || request.NewHash == "" {
		return identity.Login{}, 0, ErrBadText
	}
	result, err := newLogin()
	if err != nil {
		return identity.Login{}, 0, err
	}
	ended := 0
	err = s.change(ctx, queryChangePassword, "changing a password", func(tx pgx.Tx) error {
		_, standing, err := lockUser(ctx, tx, request.User, request.Session, request.Admit)
		if err != nil {
			return err
		}
		result.User, err = scanUser(tx.QueryRow(ctx, `
			UPDATE users AS u SET hashed_password = $3, password_changed_at = now(), updated_at = now()
			 WHERE u.id = $1 AND u.hashed_password::text = $2::text AND $2::text <> '' RETURNING `+userColumns,
			uuidOrNull(request.User), request.OldHash, request.NewHash))
		if errors.Is(err, pgx.ErrNoRows) {
			return refusal{identity.ErrChanged}
		}
		if err != nil {
			return err
		}
		if ended, err = revoke(ctx, tx, request.User, request.Session, "password_change"); err != nil {
			return err
		}
		who := identity.Event{Name: "password.changed", Actor: request.User, Subject: request.User, Session: request.Session}
		if err := audit(ctx, tx, who); err != nil {
			return err
		}
		if ended > 0 {
			if err := auditEnded(ctx, tx, who, "password_change", ended); err != nil {
				return err
			}
		}
		if !request.Session.IsZero() {
			result.ID, result.AuthTime, result.NotAfter = request.Session, standing.Session.AuthTime, standing.Session.NotAfter
			result.Refresh, err = replaceRefresh(ctx, tx, result.ID, request.RefreshIdle)
			return err
		}
		err = result.scan(tx.QueryRow(ctx, `
			WITH s AS (
			  INSERT INTO sessions (id, user_id, auth_time, valid_from, created_at, last_seen_at, not_after, company_id, ip, user_agent)
			  SELECT $2::uuid, u.id, m.at, greatest(m.at, u.tokens_valid_after), m.at, m.at,
			         m.at + $3::bigint * interval '1 us', u.company_id, $4::inet, $5::text
			    FROM users u CROSS JOIN (SELECT clock_timestamp() AS at) m WHERE u.id = $1
			  RETURNING auth_time, not_after)
			SELECT `+userColumns+`, s.auth_time, s.not_after FROM users u CROSS JOIN s WHERE u.id = $1`,
			uuidOrNull(request.User), uuidOrNull(result.ID), request.Lifetime.Microseconds(),
			addressOrNull(request.Client.Address), userAgent(request.Client)))
		if err != nil {
			return err
		}
		result.Refresh, err = replaceRefresh(ctx, tx, result.ID, request.RefreshIdle)
		return err
	})
	if err != nil {
		return identity.Login{}, 0, err
	}
	return result.Login, ended, nil
}

// RevokeUser ends every login of a user, on an operator's word, and says how many
// sessions that were. identity.ErrNotFound: there is no such user.
func (s *Store) RevokeUser(ctx context.Context, user identity.UserID) (int, error) {
	ended := 0
	err := s.change(ctx, queryRevokeUser, "revoking a user's tokens", func(tx pgx.Tx) error {
		_, _, err := lockUser(ctx, tx, user, identity.SessionID{}, nil)
		if err != nil {
			return err
		}
		if ended, err = revoke(ctx, tx, user, identity.SessionID{}, "admin"); err != nil {
			return err
		}
		return audit(ctx, tx, identity.Event{Name: "user.revoked", Subject: user, Details: map[string]any{"sessions": ended}})
	})
	return ended, err
}

// SweepLimit is the most rows that one SweepSessions deletes.
const SweepLimit = 500

// sweepSQL reads both indexes, not the table.
const sweepSQL = `DELETE FROM sessions WHERE id IN (
	SELECT id FROM sessions WHERE not_after < now() - interval '1 day' OR ended_at < now() - interval '7 days'
	 LIMIT $1 FOR UPDATE SKIP LOCKED)`

// SweepSessions deletes sessions that were over long ago, and says how many; if
// it is SweepLimit, there may be more. Several may sweep at once: none waits for
// another, or for a session that is in use.
func (s *Store) SweepSessions(ctx context.Context) (int, error) {
	swept := 0
	err := s.write(ctx, querySweepSessions, func(ctx context.Context) error {
		tag, err := s.pool.Exec(ctx, sweepSQL, SweepLimit)
		if err != nil {
			return fmt.Errorf("deleting old sessions: %w", err)
		}
		swept = int(tag.RowsAffected())
		return nil
	})
	return swept, err
}

// lockUser takes the row and has the user judged as it stands under the lock. FOR
// UPDATE, not a weaker lock: it also keeps memberships and sessions, which
// reference the row, from being added meanwhile. Whoever locks a session has
// locked its user before, so that no two wait for each other.
//
// Without a judge the standing is not read.
func lockUser(ctx context.Context, tx pgx.Tx, id identity.UserID, session identity.SessionID,
	admit func(identity.Standing) error,
) (user identity.User, now identity.Standing, err error) {
	user, err = scanUser(tx.QueryRow(ctx, `SELECT `+userColumns+` FROM users u WHERE u.id = $1 FOR UPDATE`, uuidOrNull(id)))
	missing := errors.Is(err, pgx.ErrNoRows)
	if err != nil && !missing {
		return user, now, fmt.Errorf("locking the user: %w", err)
	}
	if admit != nil {
		if !missing {
			if now, err = standing(ctx, tx, id, session, identity.CompanyID{}); err != nil {
				return user, now, err
			}
		}
		if err := admit(now); err != nil {
			return user, now, refusal{err}
		}
	}
	if missing {
		return user, now, refusal{identity.ErrNotFound}
	}
	return user, now, nil
}

// addressOrNull passes an address that is not known as NULL.
func addressOrNull(a netip.Addr) any {
	if !a.IsValid() {
		return nil
	}
	return a.WithZone("").Unmap().String()
}

const longestUserAgent = 300

func userAgent(c identity.Client) pgtype.Text {
	return textOrNull(plain(c.UserAgent, longestUserAgent))
}

// plain is foreign text: cut, and of printable ASCII alone, which a database of
// any encoding can hold.
func plain(text string, limit int) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, text)
	return text[:min(len(text), limit)]
}

// change is one transaction, tried once. A refusal is not the database's fault
// and is returned as it is; what is the database's says during what.
func (s *Store) change(ctx context.Context, q query, doing string, work func(pgx.Tx) error) error {
	start := time.Now()
	ctx, span := s.traced(ctx, q)
	err := s.begin(ctx, work)
	ended(span, err)
	s.metrics.observe(ctx, q, time.Since(start), err)
	var refused refusal
	var answer *pgconn.PgError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &refused):
		return refused.error
	case errors.As(err, &answer) && answer.Code == codeLockNotAvailable:
		return fmt.Errorf("%s: another transaction holds a row that is needed: %w", doing, err)
	default:
		return fmt.Errorf("%s: %w", doing, once(err))
	}
}
