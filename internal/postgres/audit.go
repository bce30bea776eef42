package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/atenex/gatehouse/internal/identity"
)

// The audit log is written by the statement or transaction that does what it
// tells of: an act that cannot be recorded does not happen, and none is recorded
// that did not. What others do with plain SQL is not in it.

const auditSQL = `
INSERT INTO audit_log (event, outcome, actor_user, operator, subject_user, company_id, session_id, ip, request_id, details)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`

// longestDetail and longestOrigin bound foreign text in a record, in bytes.
const (
	longestDetail = 256
	longestOrigin = 64
)

// Audit records what happened outside of a transaction of this package: a failed
// login, a client that is made to wait. Where an act of its own is recorded, use
// audit inside its transaction instead.
func (s *Store) Audit(ctx context.Context, e identity.Event) error {
	return s.write(ctx, queryAudit, func(ctx context.Context) error { return audit(ctx, s.pool, e) })
}

// execer is what the pool and a transaction have in common.
type execer interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

// audit records an event in the transaction that it is part of; its error must
// end the transaction. Where the act came from is of the context.
func audit(ctx context.Context, db execer, e identity.Event) error {
	from := identity.OriginOf(ctx)
	outcome := e.Outcome
	if outcome == "" {
		outcome = identity.Success
	}
	details, err := auditDetails(e.Details)
	if err != nil {
		return err
	}
	if _, err := db.Exec(ctx, auditSQL, e.Name, string(outcome), uuidOrNull(e.Actor), plainOrNull(from.Operator),
		uuidOrNull(e.Subject), uuidOrNull(e.Company), uuidOrNull(e.Session),
		addressOrNull(from.Address), plainOrNull(from.RequestID), details); err != nil {
		return fmt.Errorf("recording %s: %w", e.Name, err)
	}
	return nil
}

// auditDetails is the JSON of details; a text that is foreign is cut to what a
// record may hold.
func auditDetails(details map[string]any) (string, error) {
	if len(details) == 0 {
		return "{}", nil
	}
	kept := make(map[string]any, len(details))
	for name, value := range details {
		if text, ok := value.(string); ok {
			value = plain(text, longestDetail)
		}
		kept[name] = value
	}
	encoded, err := json.Marshal(kept)
	if err != nil {
		return "", fmt.Errorf("encoding the details of a record: %w", err)
	}
	return string(encoded), nil
}

// plainOrNull keeps what a database of any encoding can hold.
func plainOrNull(text string) pgtype.Text { return textOrNull(plain(text, longestOrigin)) }

// AuditRecord is one row of the log.
type AuditRecord struct {
	ID int64
	At time.Time
	identity.Event
	identity.Origin
	SubjectEmail string // as it is now; empty: none, or the user is gone
}

// AuditFilter says which records are wanted. Its zero fields want all.
type AuditFilter struct {
	User    identity.UserID // who did it or to whom it was done
	Company identity.CompanyID
	// Prefix is of the event's name: "login." or all of it.
	Prefix string
	Since  time.Time
	// Limit is how many at most, the newest ones.
	Limit int
}

// MostRecords bounds what AuditLog returns at once.
const MostRecords = 10_000

// AuditLog gives the newest records that fit, oldest first.
func (s *Store) AuditLog(ctx context.Context, f AuditFilter) ([]AuditRecord, error) {
	if !storable(f.Prefix) {
		return nil, ErrBadText
	}
	var since pgtype.Timestamptz
	if !f.Since.IsZero() {
		since = pgtype.Timestamptz{Time: f.Since, Valid: true}
	}
	var found []AuditRecord
	err := s.read(ctx, queryAuditLog, func(ctx context.Context) error {
		rows, err := s.pool.Query(ctx, `
			SELECT a.id, a.at, a.event, a.outcome, a.actor_user, coalesce(a.operator, ''), a.subject_user, a.company_id,
			       a.session_id, coalesce(host(a.ip), ''), coalesce(a.request_id, ''), a.details::text, coalesce(u.email::text, '')
			  FROM (SELECT * FROM audit_log
			         WHERE ($1::uuid IS NULL OR subject_user = $1 OR actor_user = $1)
			           AND ($2::uuid IS NULL OR company_id = $2)
			           AND starts_with(event, $3)
			           AND ($4::timestamptz IS NULL OR at >= $4)
			         ORDER BY at DESC, id DESC LIMIT $5) a
			  LEFT JOIN users u ON u.id = a.subject_user
			 ORDER BY a.at, a.id`,
			uuidOrNull(f.User), uuidOrNull(f.Company), f.Prefix, since, min(max(f.Limit, 1), MostRecords))
		if err != nil {
			return err
		}
		found, err = pgx.CollectRows(rows, scanRecord)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading the audit log: %w", err)
	}
	return found, nil
}

func scanRecord(row pgx.CollectableRow) (AuditRecord, error) {
	var r AuditRecord
	var at pgtype.Timestamptz
	var actor, subject, company, session pgtype.UUID
	var address, details string
	err := row.Scan(&r.ID, &at, &r.Name, &r.Outcome, &actor, &r.Operator, &subject, &company, &session,
		&address, &r.RequestID, &details, &r.SubjectEmail)
	if err != nil {
		return r, err
	}
	r.At, r.Actor, r.Subject = instant(at), identity.UserID(actor.Bytes), identity.UserID(subject.Bytes)
	r.Company, r.Session = identity.CompanyID(company.Bytes), identity.SessionID(session.Bytes)
	if address != "" {
		if r.Address, err = netip.ParseAddr(address); err != nil {
			return r, err
		}
	}
	return r, json.Unmarshal([]byte(details), &r.Details)
}

// AuditTended says what TendAudit did.
type AuditTended struct{ Made, Dropped, Deleted int }

// TendAudit makes the partitions to come and takes away what is older than
// retention (zero: nothing; a day at least). Several may do it at once, and none
// waits for somebody who reads the log: what cannot be done now is for the next
// time.
func (s *Store) TendAudit(ctx context.Context, retention time.Duration) (AuditTended, error) {
	if retention < 0 {
		return AuditTended{}, errors.New("a retention before now")
	}
	var keep pgtype.Int8
	if retention > 0 {
		keep = pgtype.Int8{Int64: retention.Microseconds(), Valid: true}
	}
	var did AuditTended
	err := s.write(ctx, queryTendAudit, func(ctx context.Context) error {
		err := s.pool.QueryRow(ctx, `SELECT made, dropped, deleted FROM gatehouse_audit_tend($1::bigint * interval '1 us')`, keep).
			Scan(&did.Made, &did.Dropped, &did.Deleted)
		if err != nil {
			return fmt.Errorf("tending the audit log: %w", err)
		}
		return nil
	})
	return did, err
}
