// Package mailtest is a little SMTP server (RFC 5321, with STARTTLS and AUTH PLAIN) for
// tests, on a port of loopback. It takes mail as a real one does, and can be told to
// answer what a real one might.
//
// It must never know who sends, or why.
package mailtest

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"fmt"
	"io"
	"math/big"
	"mime/quotedprintable"
	"net"
	netmail "net/mail"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"
)

// Options are what the server can do.
type Options struct {
	// TLS offers STARTTLS, or with Implicit begins in it; nil: neither.
	TLS      *tls.Config
	Implicit bool
	// User and Password have to be given, where they are set.
	User, Password string
	// Answer is asked for each command line ("." is the end of a text) before it is
	// carried out; what it returns is the answer instead. "" goes on; "hang up" does so.
	Answer func(line string) string
}

// Received is a mail that was taken.
type Received struct {
	From, To string // of the envelope
	Message  *netmail.Message
	Text     string // decoded
	Raw      string
	TLS      bool
	User     string // who had logged in
}

// Server is listening until the test ends.
type Server struct {
	t        *testing.T
	with     Options
	listener net.Listener
	received chan Received
	serving  sync.WaitGroup
}

// Listen begins.
func Listen(t *testing.T, o Options) *Server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if o.Implicit {
		l = tls.NewListener(l, o.TLS)
	}
	s := &Server{t: t, with: o, listener: l, received: make(chan Received, 100)}
	s.serving.Go(s.accept)
	t.Cleanup(func() {
		_ = l.Close()
		s.serving.Wait()
	})
	return s
}

// Port is on 127.0.0.1.
func (s *Server) Port() uint16 { return netip.MustParseAddrPort(s.listener.Addr().String()).Port() }

// Next waits for a mail.
func (s *Server) Next() Received {
	s.t.Helper()
	select {
	case one := <-s.received:
		return one
	case <-time.After(20 * time.Second):
		s.t.Fatal("no mail came")
		return Received{}
	}
}

// None reports that no mail waits to be read.
func (s *Server) None() bool { return len(s.received) == 0 }

func (s *Server) accept() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.serving.Go(func() {
			defer func() { _ = conn.Close() }()
			// A client that leaves a connection open keeps the test from ending.
			(&talk{s: s, conn: conn, in: bufio.NewReader(conn), tls: s.with.Implicit}).run()
		})
	}
}

// talk is one connection.
type talk struct {
	s        *Server
	conn     net.Conn
	in       *bufio.Reader
	tls      bool
	user     string
	from, to string
}

func (c *talk) say(text string) { _, _ = io.WriteString(c.conn, text+"\r\n") }

func (c *talk) line() (string, bool) {
	text, err := c.in.ReadString('\n')
	return strings.TrimRight(text, "\r\n"), err == nil
}

func (c *talk) run() {
	c.say("220 mailtest ESMTP")
	for {
		line, ok := c.line()
		if !ok {
			return
		}
		if c.s.with.Answer != nil {
			switch answer := c.s.with.Answer(line); answer {
			case "":
			case "hang up":
				return
			default:
				c.say(answer)
				continue
			}
		}
		if !c.do(line) {
			return
		}
	}
}

// do carries out one command, and reports whether the connection goes on.
func (c *talk) do(line string) bool {
	verb, rest, _ := strings.Cut(line, " ")
	switch strings.ToUpper(verb) {
	case "EHLO":
		words := []string{"mailtest", "8BITMIME", "ENHANCEDSTATUSCODES"}
		if c.s.with.TLS != nil && !c.tls {
			words = append(words, "STARTTLS")
		}
		if c.s.with.User != "" {
			words = append(words, "AUTH PLAIN")
		}
		for i, word := range words {
			between := "-"
			if i == len(words)-1 {
				between = " "
			}
			c.say("250" + between + word)
		}
	case "STARTTLS":
		c.say("220 2.0.0 go on")
		conn := tls.Server(c.conn, c.s.with.TLS)
		c.conn, c.in, c.tls = conn, bufio.NewReader(conn), true
		return conn.Handshake() == nil
	case "AUTH":
		_, encoded, _ := strings.Cut(rest, " ")
		plain, _ := base64.StdEncoding.DecodeString(encoded)
		if string(plain) != "\x00"+c.s.with.User+"\x00"+c.s.with.Password {
			c.say("535 5.7.8 no " + string(plain))
			return true
		}
		c.user = c.s.with.User
		c.say("235 2.7.0 welcome")
	case "MAIL":
		if c.s.with.User != "" && c.user == "" {
			c.say("530 5.7.0 log in first")
			return true
		}
		c.from = address(rest)
		c.say("250 2.1.0 fine")
	case "RCPT":
		c.to = address(rest)
		c.say("250 2.1.5 fine")
	case "DATA":
		c.say("354 go on")
		return c.take()
	case "RSET", "NOOP":
		c.say("250 2.0.0 fine")
	case "QUIT":
		c.say("221 2.0.0 bye")
		return false
	default:
		c.say("500 5.5.1 what?")
	}
	return true
}

func (c *talk) take() bool {
	var text strings.Builder
	for {
		line, ok := c.line()
		if !ok {
			return false
		}
		if line == "." {
			break
		}
		text.WriteString(strings.TrimPrefix(line, ".") + "\r\n")
	}
	if c.s.with.Answer != nil {
		if answer := c.s.with.Answer("."); answer != "" {
			c.say(answer)
			return answer != "hang up"
		}
	}
	one, err := Read(text.String())
	if err != nil {
		c.say("554 5.6.0 no message")
		return true
	}
	one.From, one.To, one.TLS, one.User = c.from, c.to, c.tls, c.user
	c.s.received <- one
	c.say("250 2.0.0 taken")
	return true
}

// Read parses a message as it is in a file or on the wire.
func Read(raw string) (Received, error) {
	message, err := netmail.ReadMessage(strings.NewReader(raw))
	if err != nil {
		return Received{}, err
	}
	body := message.Body
	if message.Header.Get("Content-Transfer-Encoding") == "quoted-printable" {
		body = quotedprintable.NewReader(body)
	}
	text, err := io.ReadAll(body)
	return Received{Message: message, Text: strings.ReplaceAll(string(text), "\r\n", "\n"), Raw: raw}, err
}

// address is what stands in the brackets of MAIL FROM:<…> and RCPT TO:<…>.
func address(argument string) string {
	_, rest, _ := strings.Cut(argument, "<")
	inside, _, _ := strings.Cut(rest, ">")
	return inside
}

// Certificate is of 127.0.0.1 for an hour, and what a client has to trust for it.
func Certificate(t *testing.T) (server, client *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mailtest"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(fmt.Errorf("reading back a certificate: %w", err))
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12},
		&tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
}
