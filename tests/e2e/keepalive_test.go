package e2e

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// A gRPC server that was told nothing closes a connection whose client pings more
// often than every five minutes, or at all while nothing is asked: at the third
// ping too many. Envoy and others keep idle connections alive by pings.
func TestAClientMayKeepAnIdleConnectionAlive(t *testing.T) {
	t.Parallel()
	s := commons().in(t)
	c, err := net.DialTimeout("tcp", s.settings["GATEWAY_AUTHZ_LISTEN"], patience)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	f := http2.NewFramer(c, c)
	if err := f.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	// ping returns what the server says instead of going on. It answers even the
	// ping that it ends the connection for; what it says next is waited for, which
	// without that is its answer to settings.
	ping := func() error {
		if err := f.WritePing(false, [8]byte{1}); err != nil {
			return err
		}
		if err := f.WriteSettings(); err != nil {
			return err
		}
		answered := false
		for {
			frame, err := f.ReadFrame()
			if err != nil {
				return err
			}
			switch frame := frame.(type) {
			case *http2.SettingsFrame:
				switch {
				case !frame.IsAck():
					err = f.WriteSettingsAck()
				case answered:
					return nil
				}
			case *http2.PingFrame:
				if answered = answered || frame.IsAck(); !frame.IsAck() {
					err = f.WritePing(true, frame.Data)
				}
			case *http2.GoAwayFrame:
				return http2.ConnectionError(frame.ErrCode)
			}
			if err != nil {
				return err
			}
		}
	}
	// The first counts for nothing, and two are forgiven. A server that was told
	// nothing closes at the fourth, however late it comes; ours counts only those
	// that follow one another in less than five seconds.
	for n := range 3 {
		if err := ping(); err != nil {
			t.Fatalf("ping %d: %v", n+1, err)
		}
	}
	<-time.After(6 * time.Second)
	if err := ping(); err != nil {
		t.Fatalf("a ping after 6 s of silence: %v, want an answer", err)
	}
	// There is a limit all the same: the next one is too many, or one of those after
	// it, if the machine is so busy that five seconds pass between two.
	for range 20 {
		if err = ping(); err != nil {
			break
		}
	}
	var calm http2.ConnectionError
	if !errors.As(err, &calm) || http2.ErrCode(calm) != http2.ErrCodeEnhanceYourCalm {
		t.Errorf("pings without end: %v, want ENHANCE_YOUR_CALM", err)
	}
}
