package e2e

import (
	"net/http"
	"testing"
)

const (
	cannotAssociate = "Cannot associate company: No company ID provided and no default is configured for the gateway."
	notAllowed      = "You are not allowed to join this company."
)

func (s *stack) ensure(raw, body string) answer {
	s.t.Helper()
	return s.postJSON(initialRoute, bearer(raw), body)
}

// wantCompany checks an answer of ensure-company and that its token works.
func (s *stack) wantCompany(t *testing.T, a answer, u user, company string, changed bool) string {
	t.Helper()
	if err := a.is(http.StatusOK); err != nil {
		t.Fatal(err)
	}
	guarded(t, a)
	message := "Company association confirmed as " + company + "."
	if changed {
		message = "Company association successfully updated to " + company + "."
	}
	for name, want := range map[string]string{"user_id": u.id, "company_id": company, "message": message, "token_type": "bearer"} {
		if got := a.field(t, name); got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
	raw := a.field(t, "new_access_token")
	s.decide(t, raw, accepted)
	if got := s.query.only(t).Header.Get("X-Company-Id"); got != company {
		t.Errorf("the upstream got company %q, want %q", got, company)
	}
	if got := s.text(`SELECT company_id::text FROM users WHERE id = $1::uuid`, u.id); got != company {
		t.Errorf("the row has company %s, want %s", got, company)
	}
	return raw
}

func (s *stack) wantUnmoved(t *testing.T, u user) {
	t.Helper()
	var want any
	if u.company != "" {
		want = u.company
	}
	if got := s.row(`SELECT company_id::text FROM users WHERE id = $1::uuid`, u.id)[0]; got != want {
		t.Errorf("the row has company %v, want %v", got, want)
	}
}

func TestEnsureCompanyKeepsToInvitations(t *testing.T) {
	s := shared(t)
	u := s.newMember()
	raw := token(t, claimsOf(u))
	for name, body := range map[string]string{
		"nothing": "", "an empty object": "{}", "null": "null", "company null": `{"company_id":null}`,
		"the current one": `{"company_id":"` + u.company + `"}`, "in upper case": `{"company_id":"` + mixed(u.company) + `"}`,
		"unknown keys": `{"x":1}`,
	} {
		t.Run("confirms: "+name, func(t *testing.T) {
			s := s.in(t)
			s.wantCompany(t, s.ensure(raw, body), u, u.company, false)
		})
	}
	for name, company := range map[string]string{"another company": s.newCompany(), "an unknown company": s.newUUID()} {
		t.Run("refuses: "+name, func(t *testing.T) {
			s := s.in(t)
			s.ensure(raw, `{"company_id":"`+company+`"}`).want(t, http.StatusForbidden, notAllowed)
			s.wantUnmoved(t, u)
			newcomer := s.newUser("")
			s.ensure(token(t, claimsOf(newcomer)), `{"company_id":"`+company+`"}`).want(t, http.StatusForbidden, notAllowed)
			s.wantUnmoved(t, newcomer)
		})
	}
	t.Run("no company and no default", func(t *testing.T) {
		s := s.in(t)
		s.ensure(token(t, claimsOf(s.newUser(""))), "").want(t, http.StatusBadRequest, cannotAssociate)
		s.ensure(token(t, claimsOf(s.newUser(""))), `{"company_id":null}`).want(t, http.StatusBadRequest, cannotAssociate)
	})
	t.Run("a member", func(t *testing.T) {
		s := s.in(t)
		u, second := s.newMember(), s.newCompany()
		s.sql(`INSERT INTO company_members (user_id, company_id, role) VALUES ($1::uuid, $2::uuid, 'auditor')`, u.id, second)
		before := token(t, claimsOf(u))
		s.wantCompany(t, s.ensure(before, `{"company_id":"`+second+`"}`), u, second, true)
		s.decide(t, before, accepted) // the one that was left stays as a membership
	})
	t.Run("an invitation to the user", func(t *testing.T) {
		s := s.in(t)
		u, second := s.newUser(""), s.newCompany()
		s.sql(`INSERT INTO company_invitations (company_id, user_id, expires_at) VALUES ($2::uuid, $1::uuid, now() + interval '1 day')`, u.id, second)
		s.wantCompany(t, s.ensure(token(t, claimsOf(u)), `{"company_id":"`+second+`"}`), u, second, true)
		// Once.
		s.sql(`UPDATE users SET company_id = NULL WHERE id = $1::uuid`, u.id)
		s.sql(`DELETE FROM company_members WHERE user_id = $1::uuid`, u.id)
		s.ensure(token(t, claimsOf(u)), `{"company_id":"`+second+`"}`).want(t, http.StatusForbidden, notAllowed)
	})
	t.Run("invitations that do not count", func(t *testing.T) {
		s := s.in(t)
		u, other, second := s.newUser(""), s.newUser(""), s.newCompany()
		s.sql(`INSERT INTO company_invitations (company_id, user_id, expires_at, revoked_at) VALUES
			($3::uuid, $1::uuid, now() - interval '1 second', NULL), ($3::uuid, $2::uuid, now() + interval '1 day', NULL),
			($3::uuid, $1::uuid, now() + interval '1 day', now())`, u.id, other.id, second)
		s.ensure(token(t, claimsOf(u)), `{"company_id":"`+second+`"}`).want(t, http.StatusForbidden, notAllowed)
		s.wantUnmoved(t, u)
	})
	t.Run("an invitation to an address", func(t *testing.T) {
		s := s.in(t)
		const invitation = "test-invitation-of-obvious-words"
		u, thief, second := s.newUser(""), s.newUser(""), s.newCompany()
		s.sql(`INSERT INTO company_invitations (company_id, email, token_hash, expires_at)
			VALUES ($1::uuid, upper($2), sha256(convert_to($3, 'UTF8')), now() + interval '1 day')`, second, u.email, invitation)
		s.ensure(token(t, claimsOf(u)), `{"company_id":"`+second+`"}`).want(t, http.StatusForbidden, notAllowed)
		s.ensure(token(t, claimsOf(u)), `{"invitation_token":"wrong"}`).want(t, http.StatusForbidden, notAllowed)
		s.ensure(token(t, claimsOf(thief)), `{"invitation_token":"`+invitation+`"}`).want(t, http.StatusForbidden, notAllowed)
		s.wantUnmoved(t, thief)
		s.wantCompany(t, s.ensure(token(t, claimsOf(u)), `{"invitation_token":"`+invitation+`"}`), u, second, true)
	})
}

func TestEnsureCompanyReadsItsBodyStrictly(t *testing.T) {
	s := shared(t)
	u := s.newMember()
	raw := token(t, claimsOf(u))
	for name, body := range map[string]string{
		"no UUID": `{"company_id":"acme"}`, "empty": `{"company_id":""}`, "a number": `{"company_id":7}`, "braces": `{"company_id":"{` + u.company + `}"}`,
		"no hyphens": `{"company_id":"0f8fad5bd9cb469fa16570867728950e"}`, "a list": `["x"]`, "no JSON": `x`, "twice": `{"company_id":null,"company_id":null}`,
		"another case": `{"Company_ID":null}`, "something behind": `{} {}`, "a text": `"x"`,
		"an invitation that is a number": `{"invitation_token":7}`,
	} {
		t.Run(name, func(t *testing.T) { wantInvalid(t, s.in(t).ensure(raw, body), []string{"acme"}) })
	}
	s.do("POST", initialRoute, http.Header{"Authorization": {"Bearer " + raw}, "Content-Type": {"text/plain"}}, "{}").
		want(t, http.StatusUnsupportedMediaType, "Content-Type must be application/json.")
	// A UUID, if nobody's.
	s.ensure(raw, `{"company_id":"00000000-0000-0000-0000-000000000000"}`).want(t, http.StatusForbidden, notAllowed)
	// Who asks is settled before what is asked.
	s.direct("POST", initialRoute, bearer("x"), "no JSON").expect(t, malformed)
}

func TestEnsureCompanyJudgesTheTokenItself(t *testing.T) {
	s := shared(t)
	u := s.newMember()
	c := claimsOf(u)
	ask := func(c claims) answer { return s.direct("POST", initialRoute, bearer(token(t, c)), "") }
	s.direct("POST", initialRoute, nil, "").expect(t, anonymous)
	s.direct("POST", initialRoute, http.Header{"X-User-Id": {u.id}, "X-User-Email": {u.email}}, "").expect(t, anonymous)
	ask(c.with("exp", 1)).expect(t, expired)
	ask(c.with("sub", s.newUUID())).expect(t, unknownUser)
	ask(c.with("sid", s.newUUID())).expect(t, revoked)
	ask(c.with("company_id", "x")).expect(t, wrongCompany)
	s.direct("POST", initialRoute, bearer(sign(t, map[string]any{"alg": "none"}, c, "")), "").expect(t, malformed)
	ask(c).expect(t, accepted)
	s.sql(`UPDATE users SET tokens_valid_after = now() WHERE id = $1::uuid`, u.id)
	ask(c).expect(t, revoked)
	s.sql(`UPDATE users SET is_active = false WHERE id = $1::uuid`, u.id)
	ask(c).expect(t, inactiveUser)
}

func TestANewTokenOutlivesNothing(t *testing.T) {
	s := shared(t)
	u := s.newMember()
	id := s.text(`INSERT INTO sessions (id, user_id, auth_time, valid_from, not_after)
		VALUES (gen_random_uuid(), $1::uuid, now(), now() - interval '1 hour', date_trunc('second', now()) + interval '10 minutes') RETURNING id::text`, u.id)
	a := s.ensure(token(t, claimsOf(u).with("sid", id)), "")
	raw := s.wantCompany(t, a, u, u.company, false)
	c := payloadOf(t, raw)
	if c["sid"] != id {
		t.Errorf("sid = %v, want %s", c["sid"], id)
	}
	end := s.text(`SELECT extract(epoch FROM not_after)::bigint FROM sessions WHERE id = $1::uuid`, id)
	if got := marshal(t, c["exp"]); got > end {
		t.Errorf("exp = %s, after the session's end %s", got, end)
	}
	s.sql(`UPDATE sessions SET ended_at = now() WHERE id = $1::uuid`, id)
	s.decide(t, raw, revoked)
	s.ensure(raw, "").expect(t, revoked)
}

func TestADefaultCompanyAndThePolicyAny(t *testing.T) {
	t.Parallel()
	const company = "7d1f6c5e-3b1a-4d7c-9a55-0f0e6f0f6b11" // has no row
	for policy, open := range map[string]bool{"invited": false, "any": true} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			s := startStack(t, map[string]string{"GATEWAY_DEFAULT_COMPANY_ID": company, "GATEWAY_COMPANY_JOIN_POLICY": policy})
			newcomer := s.newUser("")
			raw := s.wantCompany(t, s.ensure(token(t, claimsOf(newcomer)), ""), newcomer, company, true)
			s.wantCompany(t, s.ensure(raw, ""), newcomer, company, false)

			settled := s.newMember()
			s.wantCompany(t, s.ensure(token(t, claimsOf(settled)), ""), settled, settled.company, false)

			other, mover := s.newCompany(), s.newMember()
			before := token(t, claimsOf(mover))
			if !open {
				s.ensure(before, `{"company_id":"`+other+`"}`).want(t, http.StatusForbidden, notAllowed)
				s.ensure(before, `{"company_id":"`+company+`"}`).want(t, http.StatusForbidden, notAllowed) // has one already
				s.ensure(before, `{"company_id":"`+s.newUUID()+`"}`).want(t, http.StatusForbidden, notAllowed)
				s.wantUnmoved(t, mover)
				return
			}
			s.ensure(before, `{"company_id":"`+s.newUUID()+`"}`).want(t, http.StatusNotFound, "Company not found.")
			s.wantUnmoved(t, mover)
			s.wantCompany(t, s.ensure(before, `{"company_id":"`+other+`"}`), mover, other, true)
			// Whom plain SQL moves away has left.
			s.sql(`UPDATE users SET company_id = $2::uuid WHERE id = $1::uuid`, mover.id, company)
			s.decide(t, token(t, claimsOf(mover).with("company_id", other)), companyLeft)
		})
	}
}
