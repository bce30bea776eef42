package postgres

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/atenex/gatehouse/internal/identity"
)

// MostSessions bounds what ListSessions returns.
const MostSessions = 1000

// ListSessions gives the newest logins of a user that are still live (all: of
// those that were not swept yet), newest first.
func (s *Store) ListSessions(ctx context.Context, user identity.UserID, all bool) ([]identity.SessionRecord, error) {
	var found []identity.SessionRecord
	err := s.read(ctx, queryListSessions, func(ctx context.Context) error {
		rows, err := s.pool.Query(ctx, `
			SELECT l.id, l.created_at, l.last_seen_at, l.not_after, l.ended_at, coalesce(l.end_reason, ''), coalesce(host(l.ip), ''),
			       coalesce(l.user_agent, ''), l.live
			  FROM (SELECT s.*, s.ended_at IS NULL AND s.not_after > now()
			               AND (u.tokens_valid_after IS NULL OR s.valid_from >= u.tokens_valid_after) AS live
			          FROM sessions s JOIN users u ON u.id = s.user_id WHERE s.user_id = $1) l
			 WHERE $2 OR l.live ORDER BY l.created_at DESC, l.id LIMIT $3`, uuidOrNull(user), all, MostSessions)
		if err != nil {
			return err
		}
		found, err = pgx.CollectRows(rows, scanSession)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listing sessions: %w", err)
	}
	return found, nil
}

func scanSession(row pgx.CollectableRow) (identity.SessionRecord, error) {
	var r identity.SessionRecord
	var id pgtype.UUID
	var created, seen, notAfter, ended pgtype.Timestamptz
	var address string
	if err := row.Scan(&id, &created, &seen, &notAfter, &ended, &r.EndReason, &address, &r.Client.UserAgent, &r.Live); err != nil {
		return r, err
	}
	r.ID = identity.SessionID(id.Bytes)
	r.CreatedAt, r.LastSeenAt, r.NotAfter, r.EndedAt = instant(created), instant(seen), instant(notAfter), instant(ended)
	var err error
	if address != "" {
		r.Client.Address, err = netip.ParseAddr(address)
	}
	return r, err
}

// EndSession ends one login of a user on an operator's word, and reports whether
// it had not ended yet. identity.ErrNotFound: the user has no such session.
func (s *Store) EndSession(ctx context.Context, user identity.UserID, session identity.SessionID) (bool, error) {
	ended := 0
	err := s.change(ctx, queryEndSession, "ending a session", func(tx pgx.Tx) error {
		_, now, err := lockUser(ctx, tx, user, session, func(identity.Standing) error { return nil })
		if err != nil {
			return err
		}
		if !now.Session.Exists {
			return refusal{identity.ErrNotFound}
		}
		if ended, err = endSession(ctx, tx, user, session, "admin"); err != nil || ended == 0 {
			return err
		}
		return auditEnded(ctx, tx, identity.Event{Subject: user, Session: session}, "admin", ended)
	})
	return ended > 0, err
}

// EndOwnSession ends one login of a user on the user's own word, and reports whether
// it had not ended yet. identity.ErrNotFound: the user has no such session.
func (s *Store) EndOwnSession(ctx context.Context, request identity.EndRequest) (bool, error) {
	if request.Admit == nil {
		return false, errors.New("an end of a session without a judge")
	}
	ended := 0
	err := s.change(ctx, queryEndSession, "ending a session", func(tx pgx.Tx) error {
		if _, _, err := lockUser(ctx, tx, request.User, request.Session, request.Admit); err != nil {
			return err
		}
		var exists bool
		err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM sessions WHERE id = $2 AND user_id = $1)`,
			uuidOrNull(request.User), uuidOrNull(request.Target)).Scan(&exists)
		if err != nil {
			return err
		}
		if !exists {
			return refusal{identity.ErrNotFound}
		}
		const reason = "logout"
		if ended, err = endSession(ctx, tx, request.User, request.Target, reason); err != nil || ended == 0 {
			return err
		}
		return auditEnded(ctx, tx, identity.Event{Actor: request.User, Subject: request.User, Session: request.Target}, reason, ended)
	})
	return ended > 0, err
}

// EndAllSessions ends every login of a user on an operator's word, and says how
// many. Unlike RevokeUser it leaves alone the tokens that have no session.
func (s *Store) EndAllSessions(ctx context.Context, user identity.UserID) (int, error) {
	ended := 0
	err := s.change(ctx, queryEndSession, "ending sessions", func(tx pgx.Tx) error {
		if _, _, err := lockUser(ctx, tx, user, identity.SessionID{}, nil); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `UPDATE sessions SET ended_at = clock_timestamp(), end_reason = 'admin'
			WHERE user_id = $1 AND ended_at IS NULL AND not_after > clock_timestamp()`, uuidOrNull(user))
		if err != nil {
			return err
		}
		if ended = int(tag.RowsAffected()); ended == 0 {
			return nil
		}
		return auditEnded(ctx, tx, identity.Event{Subject: user}, "admin", ended)
	})
	return ended, err
}

// RevokeSessionless ends, on an operator's word, all tokens of a user that have no
// session: they cannot be told apart. Its logins go on.
func (s *Store) RevokeSessionless(ctx context.Context, user identity.UserID) error {
	return s.change(ctx, queryEndSession, "revoking tokens without a session", func(tx pgx.Tx) error {
		if _, _, err := lockUser(ctx, tx, user, identity.SessionID{}, nil); err != nil {
			return err
		}
		if err := revokeSessionless(ctx, tx, user); err != nil {
			return err
		}
		return audit(ctx, tx, identity.Event{Name: "token.revoked", Subject: user, Details: map[string]any{"which": "all without a session"}})
	})
}
