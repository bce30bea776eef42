package logind

import (
	"context"
	"time"

	"github.com/atenex/gatehouse/internal/config"
	"github.com/atenex/gatehouse/internal/mail"
	"github.com/atenex/gatehouse/internal/postgres"
	"github.com/atenex/gatehouse/login"
)

// mailGrace bounds the wait for mails that are left after the last request. With a
// drain of 5 s, all stops within the 30 s that orchestrators give by default.
const mailGrace = 5 * time.Second

// newMail has no sender where nobody is written to.
func newMail(s *config.Settings, store *postgres.Store) (login.Mail, error) {
	m := s.Mail
	if !m.On() {
		return login.Mail{}, nil
	}
	sender, err := newSender(m)
	return login.Mail{
		Sender: sender, Tokens: store,
		ResetURL: m.ResetURL, VerifyURL: m.VerifyURL, ResetFor: m.ResetTTL, VerifyFor: m.VerifyTTL,
	}, err
}

func newSender(m config.Mail) (login.Sender, error) {
	from, err := mail.ParseFrom(m.From)
	if err != nil {
		return nil, err
	}
	if m.Dir != "" {
		return mail.NewFiles(m.Dir, from)
	}
	security := mail.StartTLS
	switch {
	case m.SMTP.Implicit:
		security = mail.ImplicitTLS
	case m.SMTP.Plain:
		security = mail.Unprotected
	}
	return mail.NewSMTP(mail.Server{
		Host: m.SMTP.Host, Port: m.SMTP.Port, Security: security, User: m.SMTP.User, Password: m.SMTP.Password.Reveal(),
	}, from)
}

// flush is for the end, after the last request.
func flush(service *login.Service) {
	ctx, cancel := context.WithTimeout(context.Background(), mailGrace)
	defer cancel()
	service.Flush(ctx)
}
