package e2e

import (
	"net/http"
	"strings"
	"testing"
)

func invitationsOf(company string) string { return "/api/v1/companies/" + company + "/invitations" }

// newAdmin is somebody with a password who is admin of a new company.
func (s *stack) newAdmin() user {
	s.t.Helper()
	u := s.withPassword(s.newMember())
	s.sql(`UPDATE users SET role = 'admin' WHERE id = $1::uuid`, u.id)
	return u
}

func TestAnInvitationThroughTheGate(t *testing.T) {
	s := shared(t)
	admin, guest := s.newAdmin(), s.withPassword(s.newMember())
	asAdmin, asGuest := bearer(s.logIn(admin)), s.logIn(guest)
	path := invitationsOf(admin.company)

	// Made by the admin of the company alone, and for it alone.
	body := `{"email":"` + guest.email + `","role":"user"}`
	s.postJSON(path, nil, body).want(t, http.StatusUnauthorized, "Not authenticated")
	s.postJSON(path, bearer(asGuest), body).want(t, http.StatusForbidden, "You are not allowed to invite people to this company.")
	s.postJSON(invitationsOf(guest.company), asAdmin, body).want(t, http.StatusForbidden, "You are not allowed to invite people to this company.")
	made := s.postJSON(path, asAdmin, body)
	if err := made.is(http.StatusCreated); err != nil {
		t.Fatal(err)
	}
	guarded(t, made)
	secret := made.field(t, "token")
	s.postJSON(path, asAdmin, body).want(t, http.StatusConflict, "This address has an open invitation already.")
	list := s.get(path, asAdmin)
	if err := list.is(http.StatusOK); err != nil || !strings.Contains(list.body, made.field(t, "id")) || strings.Contains(list.body, secret) {
		t.Errorf("the list: %v %s", err, list.body)
	}

	// Accepted: the new token works at once, for the new company.
	s.wantCompany(t, s.ensure(asGuest, `{"invitation_token":"`+secret+`"}`), guest, admin.company, true)
	s.postJSON(path, asAdmin, body).want(t, http.StatusConflict, "This user is a member of the company already.")

	// Taken back.
	other := s.postJSON(path, asAdmin, `{"email":"other-`+guest.email+`"}`)
	if err := s.do(http.MethodDelete, path+"/"+other.field(t, "id"), asAdmin, "").is(http.StatusNoContent); err != nil {
		t.Error(err)
	}
	s.do(http.MethodDelete, path+"/"+other.field(t, "id"), asAdmin, "").want(t, http.StatusNotFound, "Invitation not found.")

	// Other paths and methods there do not exist.
	s.do(http.MethodPut, path, asAdmin, "").want(t, http.StatusMethodNotAllowed, "Method Not Allowed")
	s.get("/api/v1/companies/"+admin.company, asAdmin).want(t, http.StatusNotFound, "Not Found")
	s.get("/api/v1/companies/acme/invitations", asAdmin).want(t, http.StatusNotFound, "Not Found")

	// The log tells it, with where it came from.
	log := s.command("audit", "--company", admin.company, "--output", "json")
	for _, want := range []string{`"event": "invitation.created"`, `"event": "invitation.accepted"`, `"event": "company.joined"`, `"event": "invitation.revoked"`, `"ip": "127.0.0.1"`} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %s: %s", want, log)
		}
	}
	if strings.Contains(log, secret) {
		t.Error("the log holds the secret")
	}
}

func TestTheOperatorInvitesAndRemovesAndEveryAuthzHearsIt(t *testing.T) {
	s := shared(t)
	company, guest := s.newCompany(), s.withPassword(s.newMember())
	secret := strings.TrimSpace(s.command("company", "invite", company, guest.email, "--role", "auditor"))
	raw := s.wantCompany(t, s.ensure(s.logIn(guest), `{"invitation_token":"`+secret+`"}`), guest, company, true)
	if got := s.text(`SELECT role FROM users WHERE id = $1::uuid`, guest.id); got != "auditor" {
		t.Errorf("came in as %s", got)
	}
	s.command("company", "remove", company, guest.email)
	s.sql(`SELECT`) // the time that a change has
	s.postJSON(strictRoute, bearer(raw), "{}").want(t, http.StatusForbidden, "User is no longer associated with the company in this token.")

	// A login that ends by the command, by its token.
	again := s.logIn(guest)
	s.commandWith(again, "token", "revoke")
	s.sql(`SELECT`)
	s.postJSON(strictRoute, bearer(again), "{}").want(t, http.StatusUnauthorized, "Token has been revoked.")
}
