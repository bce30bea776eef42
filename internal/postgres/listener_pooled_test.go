package postgres_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// A proxy that pools transactions gives a client some server connection for each
// statement. What a server says in between, which is where notices come, belongs
// to nobody and is thrown away; what it says during a statement reaches whoever
// has the connection then.
func TestAProxyThatPoolsTransactionsIsFoundOut(t *testing.T) {
	t.Parallel()
	_, db := newStore(t)
	e := listen(t, poolingProxy(t, db.url))
	eventually(t, "the proxy is found out", func() bool { return strings.Contains(e.reasons(), "pools transactions") })
	if e.alive() || e.heard() != "" {
		t.Error("notices are trusted behind a proxy that throws them away")
	}
	// The direct way to the same database is good.
	listen(t, db.url).settle(t)
}

// poolingProxy throws away every NotificationResponse that comes while no
// statement is under way, as such a proxy does, and passes on the others: a
// notice to oneself comes back through it.
func poolingProxy(t *testing.T, url string) string {
	t.Helper()
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	server := net.JoinHostPort(cfg.Host, strconv.Itoa(int(cfg.Port)))
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			upstream, err := net.Dial("tcp", server)
			if err != nil {
				_ = client.Close()
				continue
			}
			go func() {
				defer client.Close()
				defer upstream.Close()
				_, _ = io.Copy(upstream, client)
			}()
			go func() {
				defer client.Close()
				defer upstream.Close()
				_ = passStatements(client, upstream)
			}()
		}
	}()
	through := strings.Replace(url, server, listener.Addr().String(), 1)
	if through == url {
		t.Fatalf("no %s in the URL", server)
	}
	return through + map[bool]string{true: "&", false: "?"}[strings.Contains(through, "?")] + "sslmode=disable"
}

// passStatements copies messages of the server: one byte of type, four of length.
func passStatements(dst, src net.Conn) error {
	idle := false // after ReadyForQuery, until the server answers again
	for {
		var head [5]byte
		if _, err := io.ReadFull(src, head[:]); err != nil {
			return err
		}
		length := binary.BigEndian.Uint32(head[1:])
		if length < 4 || length > 1<<20 {
			return errors.New("not a message of PostgreSQL")
		}
		var body bytes.Buffer
		if _, err := io.CopyN(&body, src, int64(length-4)); err != nil {
			return err
		}
		if head[0] == 'A' && idle {
			continue
		}
		idle = head[0] == 'Z'
		_ = dst.SetWriteDeadline(time.Now().Add(10 * time.Second))
		if _, err := dst.Write(append(head[:], body.Bytes()...)); err != nil {
			return err
		}
	}
}
