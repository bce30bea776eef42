// Package mail sends a plain message to one person: by SMTP, or into a directory.
//
// It must never know why somebody is written to, who asked for it, or where a setting
// came from. None of its errors holds an address or a word of the message, nor what a
// server said, which may repeat both: a code is all that is passed on.
package mail

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	netmail "net/mail"
	"strings"
	"unicode"
	"unicode/utf8"

	gomail "github.com/wneessen/go-mail"

	"github.com/atenex/gatehouse/internal/identity"
)

// longestSubject bounds a subject, in bytes, and longestText a text.
const (
	longestSubject = 300
	longestText    = 16 << 10
)

var errUnfit = fmt.Errorf("the address or the text cannot stand in a mail: %w", identity.ErrMailRefused)

// ParseFrom reads whom mails are from: an address, or "Name <address>".
func ParseFrom(text string) (*netmail.Address, error) {
	from, err := netmail.ParseAddress(text)
	if err != nil || strings.ContainsFunc(text, unicode.IsControl) || identity.CheckEmail(from.Address) != nil {
		return nil, errors.New(`not an address such as "Gatehouse <no-reply@example.com>"`)
	}
	return from, nil
}

// compose writes a message. What could end a header and begin another one, or name a
// second recipient, is refused and not escaped.
func compose(from *netmail.Address, m identity.Mail, encoding gomail.Encoding) (*gomail.Msg, error) {
	if identity.CheckEmail(m.To) != nil || strings.ContainsFunc(m.Subject, unicode.IsControl) || len(m.Subject) > longestSubject ||
		len(m.Text) > longestText || !utf8.ValidString(m.Subject+m.Text) || strings.ContainsFunc(m.Text, func(r rune) bool { return r != '\n' && unicode.IsControl(r) }) {
		return nil, errUnfit
	}
	msg := gomail.NewMsg(gomail.WithEncoding(encoding), gomail.WithNoDefaultUserAgent())
	if err := msg.From(from.String()); err != nil {
		return nil, errUnfit
	}
	if err := msg.To(m.To); err != nil || len(msg.GetTo()) != 1 || msg.GetTo()[0].Address != m.To {
		return nil, errUnfit
	}
	_, domain, _ := strings.Cut(from.Address, "@")
	msg.SetMessageIDWithValue(strings.ToLower(rand.Text()) + "@" + domain)
	msg.SetDate()
	msg.Subject(m.Subject)
	// No out-of-office note answers what no person wrote (RFC 3834).
	msg.SetGenHeader("Auto-Submitted", "auto-generated")
	msg.SetBodyString(gomail.TypeTextPlain, strings.ReplaceAll(m.Text, "\n", "\r\n"))
	return msg, nil
}

func render(msg *gomail.Msg) ([]byte, error) {
	var out bytes.Buffer
	if _, err := msg.WriteTo(&out); err != nil {
		return nil, errors.New("the mail could not be written")
	}
	return out.Bytes(), nil
}
