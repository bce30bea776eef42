package login

import (
	"strconv"
	"strings"
	"time"

	"github.com/atenex/gatehouse/internal/identity"
)

// The texts hold nothing that a user wrote, a name included: whoever registers chooses
// the address that is written to, and would choose the words as well.

// compose writes a mail around its token.
func (s *Service) compose(l *letter) identity.Mail {
	o := s.with.Mail
	m := identity.Mail{To: l.token.Email}
	if l.request.Purpose == identity.ResetPurpose {
		m.Subject = "A new password for " + s.with.ProjectName
		m.Text = "Somebody asked for a new password for your account at " + s.with.ProjectName + ".\n\n" +
			"If it was you, choose one here within " + inWords(o.ResetFor) + ":\n\n" +
			strings.Replace(o.ResetURL, mailToken, l.token.Secret, 1) + "\n\n" +
			"If it was not you, there is nothing to do: your password stays as it is.\n"
		return m
	}
	m.Subject = "Confirm your address for " + s.with.ProjectName
	m.Text = "This address was given for an account at " + s.with.ProjectName + ".\n\n" +
		"If it was you, confirm it here within " + inWords(o.VerifyFor) + ":\n\n" +
		strings.Replace(o.VerifyURL, mailToken, l.token.Secret, 1) + "\n\n" +
		"If it was not you, there is nothing to do.\n"
	return m
}

// inWords rounds down: a link may live longer than is said, but not less long.
func inWords(d time.Duration) string {
	n, unit := int(d/time.Minute), "minute"
	if n >= 60 && (n%60 == 0 || n > 600) {
		n, unit = n/60, "hour"
	}
	if n != 1 {
		unit += "s"
	}
	return strconv.Itoa(n) + " " + unit
}
