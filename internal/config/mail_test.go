package config_test

import (
	"strings"
	"testing"
	"time"

	"github.com/atenex/gatehouse/internal/config"
)

// mailing is what SMTP needs, with more settings behind it, which count.
func mailing(more ...string) []string {
	return append([]string{
		"GATEWAY_JWT_SECRET=" + testSecret, "GATEWAY_LEGACY_TOKENS_UNTIL=2031-05-17T00:00:00Z",
		"GATEWAY_MAIL=smtp", "GATEWAY_MAIL_FROM=Gatehouse <no-reply@example.com>", "GATEWAY_SMTP_URL=smtp://gate:test-secret@mail.example.com",
		"GATEWAY_RESET_URL=https://app.example.com/reset#token={token}", "GATEWAY_VERIFY_URL=http://localhost:3000/verify#{token}",
	}, more...)
}

func TestRulesOfMail(t *testing.T) {
	const badURL, badPage = "GATEWAY_SMTP_URL: ", "GATEWAY_RESET_URL: "
	for _, tc := range []struct {
		name         string
		environ      []string
		wantFaults   []string
		wantWarnings []string
	}{
		{"all of it", nil, nil, nil},
		{"off needs nothing", []string{"GATEWAY_MAIL=off", "GATEWAY_MAIL_FROM=", "GATEWAY_SMTP_URL=", "GATEWAY_RESET_URL="}, nil, nil},
		{"what is missing is told at once", []string{"GATEWAY_MAIL_FROM=", "GATEWAY_SMTP_URL=", "GATEWAY_RESET_URL=", "GATEWAY_VERIFY_URL="}, []string{
			"GATEWAY_MAIL_FROM: is not set; ", "GATEWAY_SMTP_URL: is not set; ", "GATEWAY_RESET_URL: is not set; ", "GATEWAY_VERIFY_URL: is not set; ",
		}, nil},
		{"files need no server", []string{"GATEWAY_MAIL=file:/var/spool/gatehouse", "GATEWAY_SMTP_URL="}, nil, nil},
		{"a directory that depends on where a process runs", []string{"GATEWAY_MAIL=file:mail"}, []string{"GATEWAY_MAIL: names no absolute directory"}, nil},
		{"another way", []string{"GATEWAY_MAIL=sendmail"}, []string{`GATEWAY_MAIL: "sendmail" is not off, smtp or file:/directory`}, nil},
		{"a sender without an address", []string{"GATEWAY_MAIL_FROM=Gatehouse"}, []string{"GATEWAY_MAIL_FROM: is not an address"}, nil},
		{"two senders", []string{"GATEWAY_MAIL_FROM=a@b.example, c@d.example"}, []string{"GATEWAY_MAIL_FROM: is not an address"}, nil},
		{"another scheme", []string{"GATEWAY_SMTP_URL=http://mail.example.com"}, []string{badURL + "does not begin with smtp://"}, nil},
		{"a password with a raw slash", []string{"GATEWAY_SMTP_URL=smtp://gate:test/secret@mail.example.com"}, []string{badURL}, nil},
		{"a password with a raw hash", []string{"GATEWAY_SMTP_URL=smtp://gate:test#secret@mail.example.com"}, []string{badURL}, nil},
		{"no host", []string{"GATEWAY_SMTP_URL=smtp://:587"}, []string{badURL + "names no host"}, nil},
		{"a wrong port", []string{"GATEWAY_SMTP_URL=smtp://mail.example.com:0"}, []string{badURL + "has a wrong port"}, nil},
		{"a user alone", []string{"GATEWAY_SMTP_URL=smtp://gate@mail.example.com"}, []string{badURL + "has a user without a password"}, nil},
		{"a password without TLS", []string{"GATEWAY_SMTP_URL=smtp://gate:test-secret@mail.example.com?starttls=off"}, []string{badURL + "would send a password without TLS"}, nil},
		{"another query", []string{"GATEWAY_SMTP_URL=smtp://mail.example.com?tls=off"}, []string{badURL + "has a query"}, nil},
		{"a relay without TLS warns", []string{"GATEWAY_SMTP_URL=smtp://mail.example.com?starttls=off"}, nil, []string{"GATEWAY_SMTP_URL: has starttls=off"}},
		{"but not on this machine", []string{"GATEWAY_SMTP_URL=smtp://127.0.0.1:25?starttls=off"}, nil, nil},
		{"a page without a place for the token", []string{"GATEWAY_RESET_URL=https://app.example.com/reset"}, []string{badPage + "does not have {token} in it, once"}, nil},
		{"a page with two", []string{"GATEWAY_RESET_URL=https://app.example.com/{token}#{token}"}, []string{badPage + "does not have {token} in it, once"}, nil},
		{"a page in the clear", []string{"GATEWAY_RESET_URL=http://app.example.com/reset#{token}"}, []string{badPage + "is not https://"}, nil},
		{"a script", []string{"GATEWAY_RESET_URL=javascript:alert('{token}')"}, []string{badPage + "is not a URL"}, nil},
		{"the token as a host", []string{"GATEWAY_RESET_URL=https://{token}.example.com/"}, []string{badPage + "has {token} in its host"}, nil},
		{"a user in it", []string{"GATEWAY_RESET_URL=https://a:b@app.example.com/#{token}"}, []string{badPage + "is not a URL"}, nil},
		{"a token that servers see warns", []string{"GATEWAY_VERIFY_URL=https://app.example.com/verify?token={token}"}, nil, []string{"GATEWAY_VERIFY_URL: has {token} before a #"}},
		{"a life that is too long", []string{"GATEWAY_RESET_TOKEN_TTL=25h"}, []string{"GATEWAY_RESET_TOKEN_TTL: "}, nil},
		{"a limit of another kind", []string{"GATEWAY_MAIL_ADDRESS_LIMIT=3"}, []string{"GATEWAY_MAIL_ADDRESS_LIMIT: "}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, warnings, err := config.Load(config.Source{Environ: mailing(tc.environ...)}, config.NeedLogin)
			var got []string
			if err != nil {
				got = strings.Split(err.Error(), "\n")
				if strings.Contains(err.Error(), "secret@") {
					t.Errorf("a fault shows the password: %v", err)
				}
			}
			matching(t, "fault", got, tc.wantFaults)
			matching(t, "warning", warnings, tc.wantWarnings)
		})
	}
	if _, _, err := config.Load(config.Source{Environ: []string{"GATEWAY_JWT_SECRET=" + testSecret, "GATEWAY_MAIL=smtp"}}, config.NeedAuthz); err != nil {
		t.Errorf("authz wants settings of mail: %v", err)
	}
}

func TestHowMailIsRead(t *testing.T) {
	for _, tc := range []struct {
		name, url string
		want      config.SMTP
	}{
		{"STARTTLS", "smtp://gate:te%2Fst@mail.example.com", config.SMTP{Host: "mail.example.com", Port: 587, User: "gate"}},
		{"TLS from the first byte on", "smtps://gate:te%2Fst@mail.example.com", config.SMTP{Host: "mail.example.com", Port: 465, Implicit: true, User: "gate"}},
		{"a relay", "smtp://[::1]:25?starttls=off", config.SMTP{Host: "::1", Port: 25, Plain: true}},
	} {
		s, _ := mustLoad(t, config.Source{Environ: mailing("GATEWAY_SMTP_URL=" + tc.url)}, config.NeedLogin)
		got := s.Mail.SMTP
		if words := got.Password.Reveal(); tc.want.User != "" && words != "te/st" || tc.want.User == "" && words != "" {
			t.Errorf("%s: another password", tc.name)
		}
		if strings.Contains(s.Masked(), "te%2Fst") {
			t.Errorf("%s: the password is shown: %s", tc.name, s.Masked())
		}
		got.Password = config.Secret{}
		if got != tc.want {
			t.Errorf("%s: got %+v, want %+v", tc.name, got, tc.want)
		}
	}
	s, _ := mustLoad(t, config.Source{Environ: mailing("GATEWAY_MAIL=file:/var/spool/../spool/mail")}, config.NeedLogin)
	if !s.Mail.On() || s.Mail.Dir != "/var/spool/mail" || s.Mail.By != "" || s.Mail.ResetTTL != time.Hour || s.Mail.VerifyTTL != 24*time.Hour || s.Mail.Address[0].Most != 3 {
		t.Errorf("got %+v", s.Mail)
	}
	if s, _ := mustLoad(t, config.Source{Environ: mailing("GATEWAY_MAIL=")}, config.NeedLogin); s.Mail.On() {
		t.Error("mail is on by default")
	}
}
