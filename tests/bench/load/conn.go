package load

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"
)

// answerTimeout is far beyond what any contender may take; an answer that never
// comes ends the benchmark instead of hanging it.
const answerTimeout = 15 * time.Second

// Conn is one keep-alive connection of HTTP/1.1. It is not safe for concurrent
// use.
type Conn struct {
	conn  net.Conn
	buf   []byte // what was read
	n     int
	until time.Time // deadline in force
}

// Dial connects to host:port.
func Dial(ctx context.Context, address string) (*Conn, error) {
	d := net.Dialer{Timeout: answerTimeout}
	c, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return &Conn{conn: c, buf: make([]byte, 16<<10)}, nil
}

// Close closes the connection.
func (c *Conn) Close() error { return c.conn.Close() }

// Answer is one answer. Body is good until the next one is read.
type Answer struct {
	Status int
	Body   []byte
}

// Send writes a whole request.
func (c *Conn) Send(request []byte) error {
	// A system call is cheap, a timer for each request is not: the deadline is
	// moved when half of it is gone.
	if now := time.Now(); c.until.Sub(now) < answerTimeout/2 {
		c.until = now.Add(answerTimeout)
		if err := c.conn.SetDeadline(c.until); err != nil {
			return err
		}
	}
	_, err := c.conn.Write(request)
	return err
}

// Receive reads one answer, of the only form that Envoy gives here: a head and a
// body of a stated length.
func (c *Conn) Receive() (Answer, error) {
	c.n = 0
	for {
		if err := c.fill(); err != nil {
			return Answer{}, err
		}
		end := bytes.Index(c.buf[:c.n], []byte("\r\n\r\n"))
		if end < 0 {
			continue
		}
		status, length, err := parseHead(c.buf[:end+2])
		if err != nil {
			return Answer{}, err
		}
		whole := end + 4 + length
		if whole > len(c.buf) {
			return Answer{}, fmt.Errorf("an answer of %d bytes", whole)
		}
		for c.n < whole {
			if err := c.fill(); err != nil {
				return Answer{}, err
			}
		}
		if c.n > whole {
			return Answer{}, errors.New("more than one answer to one request")
		}
		return Answer{Status: status, Body: c.buf[end+4 : whole]}, nil
	}
}

func (c *Conn) fill() error {
	if c.n == len(c.buf) {
		return errors.New("an answer without an end")
	}
	n, err := c.conn.Read(c.buf[c.n:])
	c.n += n
	if n > 0 {
		return nil
	}
	return err
}

// parseHead reads the two figures that matter. Envoy writes names of headers in
// lower case.
func parseHead(head []byte) (status, length int, err error) {
	const start = "HTTP/1.1 "
	if len(head) < len(start)+3 || string(head[:len(start)]) != start {
		return 0, 0, fmt.Errorf("not an answer: %.40q", head)
	}
	if status, err = strconv.Atoi(string(head[len(start) : len(start)+3])); err != nil {
		return 0, 0, fmt.Errorf("not a status: %.40q", head)
	}
	_, after, found := bytes.Cut(head, []byte("\r\ncontent-length: "))
	if !found {
		return 0, 0, fmt.Errorf("an answer %d without a length", status)
	}
	text, _, _ := bytes.Cut(after, []byte("\r\n"))
	if length, err = strconv.Atoi(string(text)); err != nil || length < 0 {
		return 0, 0, fmt.Errorf("an answer with the length %q", text)
	}
	return status, length, nil
}

// check refuses every answer but the right one.
func (a Answer) check(user []byte) error {
	switch {
	case a.Status != 200:
		return fmt.Errorf("answered %d: %.200s", a.Status, a.Body)
	case !bytes.Equal(a.Body, user):
		return fmt.Errorf("the upstream saw the user %.80q instead of %q", a.Body, user)
	default:
		return nil
	}
}

// Ask sends one request on a connection of its own.
func Ask(ctx context.Context, address string, request []byte) (status int, err error) {
	c, err := Dial(ctx, address)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	if err := c.Send(request); err != nil {
		return 0, err
	}
	a, err := c.Receive()
	return a.Status, err
}
