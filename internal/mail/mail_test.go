package mail_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	netmail "net/mail"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/mail"
	"github.com/atenex/gatehouse/internal/mail/mailtest"
)

const (
	ada      = "ada@example.com"
	theToken = "test-token-that-nobody-may-read-in-a-log"
	password = "test-secret-of-the-mail-server"
)

func letter() identity.Mail {
	return identity.Mail{To: ada, Subject: "Réset", Text: "Choose one:\n\nhttps://app.example.com/reset#token=" + theToken + "\n.\nEnd of it.\n"}
}

func sender(t *testing.T) *netmail.Address {
	t.Helper()
	from, err := mail.ParseFrom(`"Gate, house" <no-reply@example.com>`)
	if err != nil {
		t.Fatal(err)
	}
	return from
}

func deliver(t *testing.T, server mail.Server, m identity.Mail) error {
	t.Helper()
	s, err := mail.NewSMTP(server, sender(t))
	if err != nil {
		t.Fatal(err)
	}
	// Longer than a delivery takes: one that leaves its connection open is found by
	// that the server waits on it until the test is over.
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	return s.Send(ctx, m)
}

func TestAMailArrivesAsItWasWritten(t *testing.T) {
	serverTLS, clientTLS := mailtest.Certificate(t)
	for _, test := range []struct {
		name    string
		server  mailtest.Options
		client  mail.Server
		wantTLS bool
	}{
		{"by STARTTLS", mailtest.Options{TLS: serverTLS}, mail.Server{}, true},
		{"by STARTTLS, logged in", mailtest.Options{TLS: serverTLS, User: "gate", Password: password}, mail.Server{User: "gate", Password: password}, true},
		{"in TLS from the first byte on, logged in", mailtest.Options{TLS: serverTLS, Implicit: true, User: "gate", Password: password},
			mail.Server{Security: mail.ImplicitTLS, User: "gate", Password: password}, true},
		{"to a relay without TLS", mailtest.Options{}, mail.Server{Security: mail.Unprotected}, false},
		{"to a relay that would offer TLS", mailtest.Options{TLS: serverTLS}, mail.Server{Security: mail.Unprotected}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := mailtest.Listen(t, test.server)
			test.client.Host, test.client.Port, test.client.TLS = "127.0.0.1", server.Port(), clientTLS
			if err := deliver(t, test.client, letter()); err != nil {
				t.Fatal(err)
			}
			got := server.Next()
			if got.From != "no-reply@example.com" || got.To != ada || got.TLS != test.wantTLS || got.User != test.client.User {
				t.Errorf("the envelope is %+v", got)
			}
			if strings.TrimSuffix(got.Text, "\n") != strings.TrimSuffix(letter().Text, "\n") {
				t.Errorf("the text is %q", got.Text)
			}
			for name, want := range map[string]string{"From": `"Gate, house" <no-reply@example.com>`, "To": "<" + ada + ">", "Auto-Submitted": "auto-generated"} {
				if h := got.Message.Header.Get(name); h != want {
					t.Errorf("%s is %q, want %q", name, h, want)
				}
			}
			if date, err := got.Message.Header.Date(); err != nil || time.Since(date) > time.Hour || got.Message.Header.Get("Message-Id") == "" {
				t.Errorf("date %v, %v, id %q", date, err, got.Message.Header.Get("Message-Id"))
			}
		})
	}
}

func TestAMailIsNotSentUnprotected(t *testing.T) {
	serverTLS, clientTLS := mailtest.Certificate(t)
	_, strangersTLS := mailtest.Certificate(t)
	for _, test := range []struct {
		name   string
		server mailtest.Options
		client mail.Server
	}{
		{"a server without STARTTLS", mailtest.Options{}, mail.Server{TLS: clientTLS}},
		{"somebody who takes STARTTLS out of the answer", mailtest.Options{TLS: serverTLS, Answer: func(line string) string {
			if strings.HasPrefix(line, "EHLO") {
				return "250 mailtest"
			}
			return ""
		}}, mail.Server{TLS: clientTLS}},
		{"a certificate of somebody else", mailtest.Options{TLS: serverTLS}, mail.Server{TLS: strangersTLS}},
		{"the same in TLS from the first byte on", mailtest.Options{TLS: serverTLS, Implicit: true}, mail.Server{Security: mail.ImplicitTLS, TLS: strangersTLS}},
		{"an old TLS", mailtest.Options{TLS: &tls.Config{Certificates: serverTLS.Certificates, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}}, mail.Server{TLS: clientTLS}},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := mailtest.Listen(t, test.server)
			test.client.Host, test.client.Port = "127.0.0.1", server.Port()
			if err := deliver(t, test.client, letter()); err == nil || errors.Is(err, identity.ErrMailRefused) || !server.None() {
				t.Errorf("got %v", err)
			}
		})
	}
	for name, server := range map[string]mail.Server{
		"a password without TLS":  {Host: "127.0.0.1", Port: 25, Security: mail.Unprotected, User: "gate", Password: password},
		"a user without password": {Host: "127.0.0.1", Port: 25, User: "gate"},
		"no port":                 {Host: "127.0.0.1"},
	} {
		if _, err := mail.NewSMTP(server, sender(t)); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

// Servers repeat addresses, passwords and texts in what they answer.
func TestAFailureSaysACodeAndNothingElse(t *testing.T) {
	serverTLS, clientTLS := mailtest.Certificate(t)
	said := " " + ada + " " + theToken + " " + password
	for _, test := range []struct {
		name, at, answer string
		password         string
		refused          bool // for good
		want             string
	}{
		{"the sender", "MAIL", "451 4.3.0" + said, "", false, "451 4.3.0"},
		{"an unknown recipient", "RCPT", "550 5.1.1" + said, "", true, "550 5.1.1"},
		{"a full mailbox, or a grey list", "RCPT", "450 4.2.2" + said, "", false, "450 4.2.2"},
		{"the text", ".", "554 5.7.1" + said, "", true, "554 5.7.1"},
		{"hung up on", ".", "hang up", "", false, "connection"},
		{"the login", "AUTH", "", "test-secret-that-is-another-one", false, "535"},
		{"the greeting", "EHLO", "hang up", "", false, "connecting"},
		{"shutting down", "EHLO", "421 4.3.2" + said, "", false, "connecting"},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := mailtest.Listen(t, mailtest.Options{TLS: serverTLS, User: "gate", Password: password, Answer: func(line string) string {
				if strings.HasPrefix(line, test.at) {
					return test.answer
				}
				return ""
			}})
			words := password
			if test.password != "" {
				words = test.password
			}
			err := deliver(t, mail.Server{Host: "127.0.0.1", Port: server.Port(), TLS: clientTLS, User: "gate", Password: words}, letter())
			if err == nil || errors.Is(err, identity.ErrMailRefused) != test.refused || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("got %v, want %q, for good %v", err, test.want, test.refused)
			}
			for _, hidden := range []string{ada, theToken, password, words} {
				if strings.Contains(err.Error(), hidden) {
					t.Errorf("the error says %q: %v", hidden, err)
				}
			}
		})
	}
}

// A mail that was taken is not sent again because the goodbye went wrong.
func TestAMailThatWasTakenIsSent(t *testing.T) {
	for _, after := range []string{"RSET", "QUIT"} {
		server := mailtest.Listen(t, mailtest.Options{Answer: func(line string) string {
			if line == after {
				return "hang up"
			}
			return ""
		}})
		if err := deliver(t, mail.Server{Host: "127.0.0.1", Port: server.Port(), Security: mail.Unprotected}, letter()); err != nil {
			t.Errorf("hung up on at %s: %v", after, err)
		}
		server.Next()
	}
}

func TestNobodyAnswers(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	s, err := mail.NewSMTP(mail.Server{Host: "127.0.0.1", Port: uint16(silent.Addr().(*net.TCPAddr).Port)}, sender(t))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := s.Send(ctx, letter()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the end of the context", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	if err := s.Send(ctx, letter()); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want that it was given up", err)
	}
}

func TestWhatCannotStandInAMailIsRefused(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "mail")
	files, err := mail.NewFiles(dir, sender(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name   string
		change func(*identity.Mail)
	}{
		{"a second header behind the address", func(m *identity.Mail) { m.To = "ada@example.com\r\nBcc: eve@example.com" }},
		{"a second recipient", func(m *identity.Mail) { m.To = "ada@example.com, eve@example.com" }},
		{"a name", func(m *identity.Mail) { m.To = "Eve <eve@example.com>" }},
		{"a command behind the address", func(m *identity.Mail) { m.To = "ada@example.com>\r\nRCPT TO:<eve@example.com" }},
		{"a comment", func(m *identity.Mail) { m.To = "ada(eve)@example.com" }},
		{"a quoted local part", func(m *identity.Mail) { m.To = `"ada eve"@example.com` }},
		{"no address", func(m *identity.Mail) { m.To = "" }},
		{"a header behind the subject", func(m *identity.Mail) { m.Subject = "Hello\r\nBcc: eve@example.com" }},
		{"a lone line feed in the subject", func(m *identity.Mail) { m.Subject = "Hello\nBcc: eve@example.com" }},
		{"a NUL in the text", func(m *identity.Mail) { m.Text = "a\x00b" }},
		{"a carriage return in the text", func(m *identity.Mail) { m.Text = "a\r\n.\r\nRCPT TO:<eve@example.com>" }},
		{"invalid UTF-8", func(m *identity.Mail) { m.Text = "\xff" }},
	} {
		m := letter()
		test.change(&m)
		if err := files.Send(t.Context(), m); !errors.Is(err, identity.ErrMailRefused) || strings.Contains(err.Error(), "eve") {
			t.Errorf("%s: got %v", test.name, err)
		}
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory was made: %v", err)
	}
	for _, text := range []string{"", "Gatehouse", "a@b.example, c@d.example", "Gate\r\nBcc: x <a@b.example>", "<a@localhost>"} {
		if _, err := mail.ParseFrom(text); err == nil {
			t.Errorf("a sender %q is taken", text)
		}
	}
}

func TestAFileHoldsOneMailForItsOwner(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "mail")
	files, err := mail.NewFiles(dir, sender(t))
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := files.Send(t.Context(), letter()); err != nil {
			t.Fatal(err)
		}
	}
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(names) != 3 {
		t.Fatalf("there are %v, %v", names, err)
	}
	for _, name := range names {
		info, err := os.Stat(name)
		if err != nil || info.Mode() != 0o600 || !strings.HasSuffix(name, ".eml") {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		got, err := mailtest.Read(string(raw))
		if err != nil || !strings.Contains(got.Text, "#token="+theToken+"\n") || !strings.Contains(got.Raw, "#token="+theToken+"\r\n") {
			t.Errorf("%s holds %s, %v", name, raw, err)
		}
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory is %v, %v", info.Mode(), err)
	}
	if _, err := mail.NewFiles("mail", sender(t)); err == nil {
		t.Error("a directory that depends on where the process runs is taken")
	}
}
