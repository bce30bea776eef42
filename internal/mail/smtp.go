package mail

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	netmail "net/mail"
	"net/textproto"
	"os"
	"sync"
	"time"

	gomail "github.com/wneessen/go-mail"

	"github.com/atenex/gatehouse/internal/identity"
)

// stepTime bounds each of the three parts of a delivery: up to the end of the TLS
// handshake and the login, the envelope with the text, and the goodbye.
const stepTime = 10 * time.Second

// Security says how a connection to the server is protected.
type Security int

// The zero value is the strictest one that every server for clients has.
const (
	StartTLS    Security = iota // begin in the clear, and go on in TLS or not at all
	ImplicitTLS                 // TLS from the first byte on
	Unprotected                 // for a relay on this machine or in one's own network
)

// Server is an SMTP server that takes mail from us.
type Server struct {
	Host     string
	Port     uint16
	Security Security
	// User and Password log in; empty: nobody does. A password never goes over a
	// connection without TLS.
	User, Password string
	// TLS is for a private authority; nil: that of the system. Versions before 1.2
	// are never spoken.
	TLS *tls.Config
}

// SMTP sends each mail over a connection of its own. Mails are few, and a connection
// that was kept would be one that broke unseen.
type SMTP struct {
	server Server
	from   *netmail.Address
}

// NewSMTP connects to nothing yet.
func NewSMTP(server Server, from *netmail.Address) (*SMTP, error) {
	if server.Host == "" || server.Port == 0 || from == nil {
		return nil, errors.New("an SMTP server needs a host, a port and a sender")
	}
	if (server.User == "") != (server.Password == "") {
		return nil, errors.New("an SMTP server needs both a user and a password, or neither")
	}
	if server.Security == Unprotected && server.User != "" {
		return nil, errors.New("a password must not go to an SMTP server without TLS")
	}
	return &SMTP{server: server, from: from}, nil
}

// Send returns once the server has taken the mail over. identity.ErrMailRefused: it
// will not take it later either. A mail that it has taken is not sent again for a
// failure after that.
func (s *SMTP) Send(ctx context.Context, m identity.Mail) error {
	msg, err := compose(s.from, m, gomail.EncodingQP)
	if err != nil {
		return err
	}
	var line line
	client, err := s.client(ctx, &line)
	if err != nil {
		return err
	}
	// The library leaves a connection open with whose server it could not agree, and
	// listens to ctx no more once it has one.
	defer line.close()
	defer context.AfterFunc(ctx, line.close)()
	conn, err := client.DialToSMTPClientWithContext(ctx)
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return fmt.Errorf("connecting to the SMTP server: %w", told(err))
	}
	sent := client.SendWithSMTPClient(conn, msg)
	// What a goodbye fails for is of no interest: the mail is there or it is not.
	_ = client.CloseWithSMTPClient(conn)
	var failed *gomail.SendError
	switch {
	case msg.IsDelivered():
		return nil
	case errors.As(sent, &failed) && failed.ErrorCode() >= 500:
		return fmt.Errorf("%s: the SMTP server answered %s: %w", failed.Reason, answer(failed), identity.ErrMailRefused)
	case errors.As(sent, &failed) && failed.ErrorCode() > 0:
		return fmt.Errorf("%s: the SMTP server answered %s", failed.Reason, answer(failed))
	case errors.As(sent, &failed):
		return fmt.Errorf("%s: the connection broke or was too slow", failed.Reason)
	default:
		return errors.New("the mail was not delivered")
	}
}

func answer(e *gomail.SendError) string {
	if e.EnhancedStatusCode() == "" {
		return fmt.Sprint(e.ErrorCode())
	}
	return fmt.Sprintf("%d %s", e.ErrorCode(), e.EnhancedStatusCode())
}

// line is the one connection of a delivery.
type line struct {
	mu   sync.Mutex
	conn net.Conn
	over bool
}

func (l *line) take(conn net.Conn) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn = conn; l.over {
		return errors.Join(context.Canceled, conn.Close())
	}
	return nil
}

func (l *line) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over = true; l.conn != nil {
		_ = l.conn.Close()
	}
}

func (s *SMTP) client(ctx context.Context, l *line) (*gomail.Client, error) {
	step := stepTime
	if end, bounded := ctx.Deadline(); bounded {
		step = min(step, time.Until(end))
	}
	if step <= 0 {
		return nil, context.DeadlineExceeded
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if s.server.TLS != nil {
		config = s.server.TLS.Clone()
		config.MinVersion = max(config.MinVersion, tls.VersionTLS12)
	}
	if config.ServerName == "" {
		config.ServerName = s.server.Host
	}
	options := []gomail.Option{
		gomail.WithPort(int(s.server.Port)), gomail.WithTimeout(step), gomail.WithTLSConfig(config),
		gomail.WithoutNoop(), // a round trip that a new connection does not need
		gomail.WithDialContextFunc(func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			if err := l.take(conn); err != nil || s.server.Security != ImplicitTLS {
				return conn, err
			}
			secure := tls.Client(conn, config)
			return secure, secure.HandshakeContext(ctx)
		}),
	}
	switch s.server.Security {
	case ImplicitTLS:
		options = append(options, gomail.WithSSL())
	case Unprotected:
		options = append(options, gomail.WithTLSPolicy(gomail.NoTLS))
	case StartTLS:
		options = append(options, gomail.WithTLSPolicy(gomail.TLSMandatory))
	default:
		return nil, errors.New("an unknown protection of an SMTP connection")
	}
	if s.server.User != "" {
		options = append(options, gomail.WithUsername(s.server.User), gomail.WithPassword(s.server.Password),
			// In TLS, so that the plain ones are as good as the others, and on every server.
			gomail.WithOpportunisticSMTPAuth(gomail.SMTPAuthPlain, gomail.SMTPAuthLogin, gomail.SMTPAuthSCRAMSHA256, gomail.SMTPAuthCramMD5))
	}
	client, err := gomail.NewClient(s.server.Host, options...)
	if err != nil {
		return nil, fmt.Errorf("preparing for the SMTP server: %w", err)
	}
	return client, nil
}

// told is what may be said of a connection that was not made. Errors of the network and
// of TLS name hosts and certificates; those of the protocol repeat what a server said.
func told(err error) error {
	var said *textproto.Error
	var network *net.OpError
	var name *net.DNSError
	var certificate *tls.CertificateVerificationError
	var alert tls.AlertError
	var notTLS tls.RecordHeaderError
	switch {
	case errors.As(err, &said):
		return fmt.Errorf("it answered %d", said.Code)
	case errors.As(err, &certificate):
		return certificate
	case errors.As(err, &alert):
		return alert
	case errors.As(err, &notTLS):
		return notTLS
	case errors.Is(err, context.Canceled):
		return context.Canceled
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return context.DeadlineExceeded
	case errors.As(err, &name):
		return name
	case errors.As(err, &network):
		return network
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return io.ErrUnexpectedEOF
	default:
		return errors.New("it offers neither STARTTLS nor a way to log in that is safe, or speaks no SMTP")
	}
}
