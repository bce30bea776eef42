package revocation

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/atenex/gatehouse/tests/bench/rig"
)

// act is one way to take a user's access away, and to give it back. The
// statements are what an operator types; $1 is what subject names.
type act struct {
	name    string
	take    string
	restore string
	subject func(rig.Person) []any
	token   func(rig.Person) string
	refusal int
}

func acts() []act {
	user := func(p rig.Person) []any { return []any{[16]byte(p.User)} }
	first := func(p rig.Person) string { return p.Token }
	return []act{
		{
			name: "user disabled",
			take: `UPDATE users SET is_active = false WHERE id = $1`, restore: `UPDATE users SET is_active = true WHERE id = $1`,
			subject: user, token: first, refusal: 401,
		},
		{
			name: "all tokens revoked",
			take: `UPDATE users SET tokens_valid_after = now() WHERE id = $1`, restore: `UPDATE users SET tokens_valid_after = NULL WHERE id = $1`,
			subject: user, token: first, refusal: 401,
		},
		{
			name: "session ended",
			take: `UPDATE sessions SET ended_at = now(), end_reason = 'admin' WHERE id = $1`, restore: `UPDATE sessions SET ended_at = NULL, end_reason = NULL WHERE id = $1`,
			subject: func(p rig.Person) []any { return []any{[16]byte(p.Session)} }, token: first, refusal: 401,
		},
		{
			name: "membership removed",
			take: `DELETE FROM company_members WHERE user_id = $1 AND company_id = $2`, restore: `INSERT INTO company_members (user_id, company_id) VALUES ($1, $2)`,
			subject: func(p rig.Person) []any { return []any{[16]byte(p.User), [16]byte(p.Second)} },
			token:   func(p rig.Person) string { return p.SecondToken }, refusal: 403,
		},
		{
			name: "company suspended",
			take: `UPDATE companies SET is_active = false WHERE id = $1`, restore: `UPDATE companies SET is_active = true WHERE id = $1`,
			subject: func(p rig.Person) []any { return []any{[16]byte(p.Company)} }, token: first, refusal: 403,
		},
	}
}

// change runs a statement that must change one row.
func change(ctx context.Context, db *pgx.Conn, statement string, subject []any) error {
	tag, err := db.Exec(ctx, statement, subject...)
	if err == nil && tag.RowsAffected() != 1 {
		err = fmt.Errorf("%d rows changed, want 1", tag.RowsAffected())
	}
	return err
}
