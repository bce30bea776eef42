package config

import (
	"errors"
	"net/mail"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/atenex/gatehouse/internal/identity"
)

// What becomes of mails.
const (
	MailOff  = "off"
	MailSMTP = "smtp"

	mailFile = "file:"
)

// Mail says how people are written to, and what their mails lead to.
type Mail struct {
	By  string // MailSMTP, or empty: by Dir
	Dir string // the absolute directory that mails are put into; empty: none
	// From is an address, or "Name <address>".
	From string
	SMTP SMTP
	// ResetURL and VerifyURL are of the front end's pages, with {token} in them.
	ResetURL, VerifyURL string
	ResetTTL, VerifyTTL time.Duration
	// Source and Address bound what one source and one address may ask for.
	Source, Address [2]identity.Quota
}

// On reports whether anybody is written to.
func (m Mail) On() bool { return m.By == MailSMTP || m.Dir != "" }

// SMTP is a server that takes mail.
type SMTP struct {
	Host     string
	Port     uint16
	Implicit bool // TLS from the first byte on
	Plain    bool // no TLS at all; else STARTTLS is demanded
	User     string
	Password Secret
}

func mailRows() []row {
	const (
		quota = " One or two of `N in DURATION`, or `0` for no limit."
		page  = " The front end's page, `https://…` (`http://` on this machine alone) with `{token}` where the token goes: after a `#` by preference, which no server gets to see."
	)
	return []row{
		{
			name: "MAIL", fallback: MailOff, by: NeedLogin,
			meaning: "What becomes of mails: `smtp`; `file:/absolute/directory`, where each is put as a file (whoever reads it can reset passwords); or `off`: there are none, and no reset of passwords ([manual](mail.md)).",
			read: func(s *Settings, text string) (err error) {
				switch dir, file := strings.CutPrefix(text, mailFile); {
				case file && filepath.IsAbs(dir) && isPrintable(dir):
					s.Mail.Dir = filepath.Clean(dir)
				case file:
					return errors.New("names no absolute directory, such as file:/var/spool/gatehouse")
				case text == MailSMTP:
					s.Mail.By = MailSMTP
				default:
					_, err = oneOf(MailOff, MailSMTP, mailFile+"/directory")(text)
				}
				return err
			},
		},
		{
			name: "MAIL_FROM", by: NeedLogin,
			meaning: "Whom mails are from: an address, or `Name <address>`.",
			read:    into(mailFrom, func(s *Settings) *string { return &s.Mail.From }),
		},
		{
			name: "SMTP_URL", secret: true, by: NeedLogin,
			meaning: "The server for `MAIL=smtp`: `smtp://user:password@host:587` (STARTTLS, without which nothing is sent) or `smtps://user:password@host:465` (TLS from the first byte on). `smtp://host:25?starttls=off` is for a relay without TLS, and takes no password.",
			read:    into(smtpURL, func(s *Settings) *SMTP { return &s.Mail.SMTP }),
		},
		{
			name: "RESET_URL", by: NeedLogin,
			meaning: "Where the mail about a forgotten password leads." + page,
			read:    into(pageURL, func(s *Settings) *string { return &s.Mail.ResetURL }),
		},
		{
			name: "VERIFY_URL", by: NeedLogin,
			meaning: "Where the mail that asks to confirm an address leads." + page,
			read:    into(pageURL, func(s *Settings) *string { return &s.Mail.VerifyURL }),
		},
		{
			name: "RESET_TOKEN_TTL", fallback: "1h", by: NeedLogin,
			meaning: "How long a mail about a forgotten password is good for, `5m` to `24h`.",
			read:    into(duration(5*time.Minute, 24*time.Hour), func(s *Settings) *time.Duration { return &s.Mail.ResetTTL }),
		},
		{
			name: "VERIFY_TOKEN_TTL", fallback: "24h", by: NeedLogin,
			meaning: "How long a mail that asks to confirm an address is good for, `5m` to `168h`.",
			read:    into(duration(5*time.Minute, 168*time.Hour), func(s *Settings) *time.Duration { return &s.Mail.VerifyTTL }),
		},
		{
			name: "MAIL_SOURCE_LIMIT", fallback: "10 in 1h, 40 in 24h", by: NeedLogin,
			meaning: "Mails about forgotten passwords that one source may ask for." + quota,
			read:    into(parseQuotas, func(s *Settings) *[2]identity.Quota { return &s.Mail.Source }),
		},
		{
			name: "MAIL_ADDRESS_LIMIT", fallback: "3 in 1h, 10 in 24h", by: NeedLogin,
			meaning: "Mails of one kind that may be asked for to one address, whether anybody has it or not." + quota,
			read:    into(parseQuotas, func(s *Settings) *[2]identity.Quota { return &s.Mail.Address }),
		},
	}
}

func mailFrom(text string) (string, error) {
	from, err := mail.ParseAddress(text)
	if err != nil || !isPrintable(text) || len(text) > 512 || identity.CheckEmail(from.Address) != nil {
		return "", errors.New(`is not an address such as "Gatehouse <no-reply@example.com>"`)
	}
	return text, nil
}

// smtpURL never shows the text.
func smtpURL(text string) (SMTP, error) {
	u, err := url.Parse(strings.TrimSpace(text))
	switch {
	case err != nil || !isPrintable(strings.TrimSpace(text)):
		return SMTP{}, errors.New("is not a URL; characters such as / ? # @ % in a password must be percent-encoded")
	case u.Scheme != "smtp" && u.Scheme != "smtps", u.Opaque != "":
		return SMTP{}, errors.New("does not begin with smtp:// or smtps://")
	case u.Path != "" && u.Path != "/", strings.Contains(text, "#"), strings.Contains(u.Host, "@"):
		return SMTP{}, errors.New("has something behind the host; characters such as / ? # @ % in a password must be percent-encoded")
	case !isHost(u.Hostname()):
		return SMTP{}, errors.New("names no host")
	case u.RawQuery != "" && (u.RawQuery != "starttls=off" || u.Scheme != "smtp"):
		return SMTP{}, errors.New("has a query that is not starttls=off, which goes with smtp:// alone")
	}
	server := SMTP{Host: u.Hostname(), Implicit: u.Scheme == "smtps", Plain: u.RawQuery != "", Port: 587}
	if server.Implicit {
		server.Port = 465
	}
	if given := u.Port(); given != "" {
		n, err := strconv.ParseUint(given, 10, 16)
		if err != nil || n == 0 {
			return SMTP{}, errors.New("has a wrong port")
		}
		server.Port = uint16(n)
	}
	words, _ := u.User.Password()
	server.User, server.Password = u.User.Username(), NewSecret(words)
	switch {
	case (server.User == "") != server.Password.IsZero():
		return SMTP{}, errors.New("has a user without a password, or a password without a user")
	case server.Plain && server.User != "":
		return SMTP{}, errors.New("would send a password without TLS")
	}
	return server, nil
}

const tokenMark = "{token}"

// pageURL is where a mail leads. The token is opaque text of letters, digits, - and _.
func pageURL(text string) (string, error) {
	u, err := url.Parse(strings.Replace(text, tokenMark, "0", 1))
	switch {
	case strings.Count(text, tokenMark) != 1:
		return "", errors.New("does not have {token} in it, once")
	case err != nil || !isPrintable(text) || strings.Contains(text, " ") || len(text) > 800 || u.Host == "" || u.User != nil || u.Opaque != "":
		return "", errors.New("is not a URL such as https://app.example.com/reset#token={token}")
	case u.Scheme != "https" && (u.Scheme != "http" || !isLoopback(u.Hostname())):
		return "", errors.New("is not https://, which only a page on this machine need not be")
	case strings.Contains(authority(text), tokenMark):
		return "", errors.New("has {token} in its host")
	}
	return text, nil
}

// authority is a URL up to its path.
func authority(text string) string {
	_, rest, _ := strings.Cut(text, "://")
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		return rest[:i]
	}
	return rest
}

func applyMail(s *Settings, need Need, r *report) {
	if need&NeedLogin == 0 || !s.Mail.On() || r.bad["MAIL"] {
		return
	}
	wanted := []string{"MAIL_FROM", "RESET_URL", "VERIFY_URL"}
	if s.Mail.By == MailSMTP {
		wanted = append(wanted, "SMTP_URL")
	}
	for _, name := range wanted {
		if !s.given[name] && !r.bad[name] {
			r.fault(name, "is not set; GATEWAY_MAIL needs it")
		}
	}
	for _, page := range []struct{ name, url string }{{"RESET_URL", s.Mail.ResetURL}, {"VERIFY_URL", s.Mail.VerifyURL}} {
		if before, _, _ := strings.Cut(page.url, "#"); strings.Contains(before, tokenMark) {
			r.warn(page.name, "has {token} before a #: servers, their logs and other sites get to see it; put it behind one")
		}
	}
	if s.Mail.SMTP.Plain && s.Mail.By == MailSMTP && !isLoopback(s.Mail.SMTP.Host) {
		r.warn("SMTP_URL", "has starttls=off: whoever stands between reads every mail, and with it can reset passwords")
	}
}
