package e2e

import (
	"net/http"
	"testing"
	"time"
)

// What the database says counts on the very next request; every change here is
// plain SQL.
func TestTheDatabaseHasTheLastWord(t *testing.T) {
	s := shared(t)
	const set = `UPDATE users SET `
	for _, test := range []struct {
		name string
		sql  string // $1 is the user, $2 its company
		want refusal
	}{
		{"disabled", set + `is_active = false WHERE id = $1::uuid AND $2::text <> ''`, inactiveUser},
		{"activity unknown", set + `is_active = NULL WHERE id = $1::uuid AND $2::text <> ''`, inactiveUser},
		{"deleted", `DELETE FROM users WHERE id = $1::uuid AND $2::text <> ''`, unknownUser},
		{"moved to no company", set + `company_id = NULL WHERE id = $1::uuid AND $2::text <> ''`, companyLeft},
		{"moved to another company", set + `company_id = gen_random_uuid() WHERE id = $1::uuid AND $2::text <> ''`, companyLeft},
		{"company suspended", `UPDATE companies SET is_active = false WHERE id = $2::uuid AND $1::text <> ''`, companyOnHold},
		{"company without a row", `DELETE FROM companies WHERE id = $2::uuid AND $1::text <> ''`, accepted},
		{"renamed, and another role", set + `full_name = 'x', role = 'admin' WHERE id = $1::uuid AND $2::text <> ''`, accepted},
		{"tokens taken back from now on", set + `tokens_valid_after = now() WHERE id = $1::uuid AND $2::text <> ''`, revoked},
		{"tokens taken back before this one", set + `tokens_valid_after = now() - interval '1 hour' WHERE id = $1::uuid AND $2::text <> ''`, accepted},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := s.in(t)
			u := s.newMember()
			raw := token(t, claimsOf(u))
			s.decide(t, raw, accepted)
			s.sql(test.sql, u.id, u.company)
			s.decide(t, raw, test.want)
		})
	}
}

func TestWhatIsUndoneCountsAtOnceToo(t *testing.T) {
	s := shared(t)
	u := s.newMember()
	raw := token(t, claimsOf(u))
	s.sql(`UPDATE users SET is_active = false WHERE id = $1::uuid`, u.id)
	s.decide(t, raw, inactiveUser)
	s.sql(`UPDATE users SET is_active = true WHERE id = $1::uuid`, u.id)
	s.decide(t, raw, accepted)
	s.command("user", "disable", u.email)
	s.decide(t, raw, inactiveUser)
	s.command("user", "enable", u.id)
	s.decide(t, raw, accepted)
}

func TestAMembershipIsEnough(t *testing.T) {
	s := shared(t)
	u, second := s.newMember(), s.newCompany()
	raw := token(t, claimsOf(u).with("company_id", second))
	s.decide(t, raw, companyLeft)
	s.sql(`INSERT INTO company_members (user_id, company_id) VALUES ($1::uuid, $2::uuid)`, u.id, second)
	s.decide(t, raw, accepted)
	if got := s.query.only(t).Header.Get("X-Company-ID"); got != second {
		t.Errorf("the upstream got company %s, want the token's %s", got, second)
	}
	s.sql(`UPDATE companies SET is_active = false WHERE id = $1::uuid`, second)
	s.decide(t, raw, companyOnHold)
	s.decide(t, token(t, claimsOf(u)), accepted) // the other company is not touched
	s.sql(`DELETE FROM company_members WHERE user_id = $1::uuid`, u.id)
	s.decide(t, raw, companyLeft)
}

func TestAnInitialRouteIgnoresTheCompaniesState(t *testing.T) {
	s := shared(t)
	u := s.newMember()
	s.sql(`UPDATE companies SET is_active = false WHERE id = $1::uuid`, u.company)
	if err := s.postJSON(initialRoute, bearer(token(t, claimsOf(u))), "").is(http.StatusOK); err != nil {
		t.Error(err)
	}
	// But not the user's.
	s.sql(`UPDATE users SET is_active = NULL WHERE id = $1::uuid`, u.id)
	s.postJSON(initialRoute, bearer(token(t, claimsOf(u))), "").expect(t, inactiveUser)
}

func TestATokenLivesNoLongerThanItsSession(t *testing.T) {
	s := shared(t)
	u, other := s.newMember(), s.newMember()
	now := time.Now()
	hour := time.Hour
	live := session{user: u.id, validFrom: now.Add(-hour), notAfter: now.Add(hour)}
	ended, past, foreign, old := live, live, live, live
	ended.ended = true
	past.notAfter = now.Add(-time.Minute)
	foreign.user = other.id
	old.validFrom = now.Add(-3 * hour)
	c := claimsOf(u)
	liveID := s.newSession(live)
	for _, test := range []struct {
		name  string
		sid   any
		after any // tokens_valid_after of the user
		want  refusal
	}{
		{"a live session", liveID, nil, accepted},
		{"a live session in upper case", mixed(liveID), nil, accepted},
		{"none", nil, nil, accepted},
		{"an ended session", s.newSession(ended), nil, revoked},
		{"a session past its end", s.newSession(past), nil, revoked},
		{"somebody else's session", s.newSession(foreign), nil, revoked},
		{"a session that does not exist", s.newUUID(), nil, revoked},
		{"no UUID", "session-1", nil, revoked},
		{"empty", "", nil, revoked},
		{"the nil UUID", "00000000-0000-0000-0000-000000000000", nil, revoked},
		{"a session from before tokens_valid_after", s.newSession(old), now.Add(-2 * hour), revoked},
		{"a session from after tokens_valid_after", liveID, now.Add(-2 * hour), accepted},
		{"a session that begins at tokens_valid_after", liveID, live.validFrom, accepted},
		{"no session, issued before tokens_valid_after", nil, now, revoked},
		{"no session, issued after tokens_valid_after", nil, now.Add(-2 * hour), accepted},
		// The token itself was issued before the mark, its session is newer.
		{"a session from after tokens_valid_after, an older token", liveID, now.Add(-30 * time.Minute), revoked},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := s.in(t)
			s.sql(`UPDATE users SET tokens_valid_after = $2 WHERE id = $1::uuid`, u.id, test.after)
			s.decide(t, token(t, c.with("sid", test.sid)), test.want)
		})
	}
	s.sql(`UPDATE users SET tokens_valid_after = NULL WHERE id = $1::uuid`, u.id)

	t.Run("a session that ends between two requests", func(t *testing.T) {
		s := s.in(t)
		raw := token(t, c.with("sid", liveID))
		s.decide(t, raw, accepted)
		s.sql(`UPDATE sessions SET ended_at = now(), end_reason = 'admin' WHERE id = $1::uuid`, liveID)
		s.decide(t, raw, revoked)
	})
	t.Run("a token without iat under tokens_valid_after", func(t *testing.T) {
		s := s.in(t)
		s.sql(`UPDATE users SET tokens_valid_after = now() - interval '1 day' WHERE id = $1::uuid`, u.id)
		s.decide(t, token(t, c.without("iat")), revoked)
	})
}

func TestTheStandingIsJudgedInTheOrderOfTheContract(t *testing.T) {
	s := shared(t)
	u := s.newMember()
	c := claimsOf(u)
	foreign := s.newCompany()
	s.sql(`UPDATE companies SET is_active = false WHERE id = ANY(ARRAY[$1, $2]::uuid[])`, u.company, foreign)
	// Everything is wrong with the user; one thing after the other is put right.
	s.sql(`UPDATE users SET is_active = false, tokens_valid_after = now() WHERE id = $1::uuid`, u.id)
	worst := c.without("company_id").with("sid", "x")
	s.decide(t, token(t, worst), inactiveUser)
	s.sql(`UPDATE users SET is_active = true WHERE id = $1::uuid`, u.id)
	s.decide(t, token(t, worst), revoked)
	s.sql(`UPDATE users SET tokens_valid_after = NULL WHERE id = $1::uuid`, u.id)
	s.decide(t, token(t, worst), revoked)
	s.decide(t, token(t, worst.without("sid")), noCompany)
	s.decide(t, token(t, c.with("company_id", foreign)), companyLeft)
	s.decide(t, token(t, c), companyOnHold)
	s.sql(`UPDATE companies SET is_active = true WHERE id = $1::uuid`, u.company)
	s.decide(t, token(t, c), accepted)
}
