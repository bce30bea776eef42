// Package load sends HTTP requests as cheaply as it can and is strict about the
// answers: it shares the machine with what it measures, so every cycle of its own
// is one that the contenders do not get, but a fast wrong answer must not count.
//
// It has a closed loop (so many connections, each sends its next request when it
// has its answer), a fixed rate whose latencies count from when a request should
// have been sent, and the upstream that answers behind the gate. It must never
// know which gate that is.
package load

import (
	"fmt"
	"sync/atomic"
)

// head is what a browser sends along, some 22 headers together with what Envoy
// adds: each of them is unpacked by an ext_authz server that asks for all.
const head = "GET /api/v1/query/chats?limit=20&before=2026-01-01 HTTP/1.1\r\n" +
	"Host: gate.example.com\r\n" +
	"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\r\n" +
	"Accept: application/json, text/plain, */*\r\n" +
	"Accept-Encoding: gzip, deflate, br, zstd\r\n" +
	"Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\n" +
	"Cache-Control: no-cache\r\n" +
	"Origin: http://localhost:3000\r\n" +
	"Referer: http://localhost:3000/chats\r\n" +
	"Sec-Ch-Ua: \"Chromium\";v=\"140\", \"Not=A?Brand\";v=\"24\"\r\n" +
	"Sec-Ch-Ua-Mobile: ?0\r\n" +
	"Sec-Ch-Ua-Platform: \"Linux\"\r\n" +
	"Sec-Fetch-Dest: empty\r\n" +
	"Sec-Fetch-Mode: cors\r\n" +
	"Sec-Fetch-Site: same-site\r\n" +
	"Cookie: theme=dark; consent=2026-01-01\r\n" +
	"Authorization: Bearer "

const tail = "\r\n\r\n"

// Credential is a token and whose it is.
type Credential struct {
	Token string
	User  string // as the upstream must see it
}

// Credentials are many, in three blocks of memory without a pointer in them: the
// garbage collector of the process that measures should have nothing to walk.
type Credentials struct {
	tokens []byte
	ends   []uint32
	users  []byte // userLength bytes each
}

const userLength = 36 // a UUID

// Add appends one. All users' names have 36 bytes.
func (c *Credentials) Add(one Credential) error {
	if len(one.User) != userLength {
		return fmt.Errorf("user %q: want %d bytes", one.User, userLength)
	}
	c.tokens = append(c.tokens, one.Token...)
	c.ends = append(c.ends, uint32(len(c.tokens)))
	c.users = append(c.users, one.User...)
	return nil
}

// Len is how many there are.
func (c *Credentials) Len() int { return len(c.ends) }

func (c *Credentials) token(i int) []byte {
	from := uint32(0)
	if i > 0 {
		from = c.ends[i-1]
	}
	return c.tokens[from:c.ends[i]]
}

func (c *Credentials) user(i int) []byte { return c.users[i*userLength : (i+1)*userLength] }

// Requests hands out one request after the other, to any number of connections.
type Requests struct {
	credentials *Credentials
	from, to    int
	once        bool
	next        atomic.Int64
	seen        []byte // what the upstream sees instead of the token's user; nil: that
}

// Everyone goes round and round through all credentials.
func Everyone(c *Credentials) *Requests {
	return &Requests{credentials: c, to: c.Len()}
}

// Once uses each credential from..to-1 one time, and then has no more.
func Once(c *Credentials, from, to int) *Requests {
	return &Requests{credentials: c, from: from, to: min(to, c.Len()), once: true}
}

// Seeing says that the upstream is to see this user, whoever asks; "" means none.
func (r *Requests) Seeing(user string) *Requests {
	r.seen = []byte(user)
	return r
}

// Next writes the next request into buf and says which user the upstream must
// see. false: there are no more.
func (r *Requests) Next(buf []byte) (request, user []byte, ok bool) {
	n := r.to - r.from
	i := int(r.next.Add(1) - 1)
	if n <= 0 || r.once && i >= n {
		return buf[:0], nil, false
	}
	i = r.from + i%n
	buf = append(buf[:0], head...)
	buf = append(buf, r.credentials.token(i)...)
	buf = append(buf, tail...)
	if r.seen != nil {
		return buf, r.seen, true
	}
	return buf, r.credentials.user(i), true
}

// Request is the request of one token.
func Request(token string) []byte { return []byte(head + token + tail) }
