package issuers

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/strictyaml"
	"github.com/atenex/gatehouse/internal/token"
)

const (
	// maxIssuers bounds a label of the metrics.
	maxIssuers = 16
	// leastSecret is that of GATEWAY_JWT_SECRET.
	leastSecret = 32
)

// The words of the file.
const (
	profileNative   = "native"
	profileSupabase = "supabase"
	required        = "required"
	off             = "off"
)

var nameOf = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,31}$`)

// entry is one issuer of the file.
type entry struct {
	line  int
	terms token.Terms
	url   *url.URL // of the set that it publishes; nil: its keys are in terms
	// userCheck tells that the file asks for one in so many words.
	userCheck bool
}

// in is how a fault names it.
func (e entry) in() string { return fmt.Sprintf("issuer %q", e.terms.Beyond.Name) }

// file is what was read, with the digest of it and of all files that it names.
type file struct {
	entries []entry
	digest  [sha256.Size]byte
}

// source reads files and keeps account of what was in them.
type source struct {
	dir string
	sum hash.Hash
}

// read gives the bytes of a file, and in the digest its errors too, so that a file
// that comes back is a change.
func (s *source) read(name string) ([]byte, error) {
	if !filepath.IsAbs(name) {
		name = filepath.Join(s.dir, name)
	}
	data, err := readFile(name)
	part := sha256.Sum256(data)
	if err != nil {
		part = sha256.Sum256([]byte("!" + err.Error()))
	}
	_, _ = s.sum.Write(part[:]) // a hash returns no error
	return data, err
}

// readIssuers reads a file and the files that it names. Its error is [Faults]; the
// digest is there with an error too.
func readIssuers(name string) (file, error) {
	s := &source{dir: filepath.Dir(name), sum: sha256.New()}
	entries, faults := s.issuers(filepath.Base(name))
	f := file{entries: entries}
	s.sum.Sum(f.digest[:0])
	return f, faults.Of(filepath.Base(name)).Err()
}

func (s *source) issuers(base string) ([]entry, Faults) {
	data, err := s.read(base)
	if err != nil {
		return nil, Faults{{Text: err.Error()}}
	}
	root, err := strictyaml.Document(data)
	if faults, ok := errors.AsType[Faults](err); ok {
		return nil, faults
	}
	if err != nil {
		return nil, Faults{{Text: err.Error()}}
	}
	if root == nil {
		return nil, Faults{{Text: "is empty; want issuers: and a list"}}
	}
	y := newReader()
	var entries []entry
	at := y.Object(root, "", strictyaml.Fields{"issuers": func(n *yaml.Node) {
		y.List(n, "", "issuers", func(item *yaml.Node) {
			if e, ok := s.entry(y, item); ok {
				entries = append(entries, e)
			}
		})
		if n.Kind == yaml.SequenceNode && (len(n.Content) == 0 || len(n.Content) > maxIssuers) {
			y.Fault(n.Line, "", "issuers: want 1 to %d of them", maxIssuers)
		}
	}})
	if len(at.Keys) == 0 && len(y.Faults) == 0 {
		y.Fault(root.Line, "", "issuers is missing")
	}
	return entries, y.Faults
}

// draft is an issuer as it is written.
type draft struct {
	name, issuer, profile  string
	algorithms             []string
	secret, set, at, pem   string
	claims                 *token.Mapping
	role, audience         string
	leeway                 time.Duration
	until                  time.Time
	sessions               bool
	userCheck, companyTest string
}

func (s *source) entry(y *yamlReader, n *yaml.Node) (entry, bool) {
	var d draft
	before := len(y.Faults)
	in := "issuer"
	if name := nameIn(n); name != "" {
		in = fmt.Sprintf("issuer %q", name)
	}
	at := y.Object(n, in, strictyaml.Fields{
		"name":       y.text(in, "name", &d.name),
		"issuer":     y.text(in, "issuer", &d.issuer),
		"algorithms": y.texts(in, "algorithms", &d.algorithms),
		"keys": func(n *yaml.Node) {
			keys := y.Object(n, in, strictyaml.Fields{
				"secret_file":     y.text(in, "secret_file", &d.secret),
				"jwks_file":       y.text(in, "jwks_file", &d.set),
				"jwks_url":        y.text(in, "jwks_url", &d.at),
				"public_key_file": y.text(in, "public_key_file", &d.pem),
			})
			if len(keys.Keys) != 1 {
				y.Fault(n.Line, in, "keys: want exactly one of secret_file, jwks_file, jwks_url and public_key_file")
			}
		},
		"profile": y.one(in, "profile", &d.profile, profileNative, profileSupabase),
		"claims": func(n *yaml.Node) {
			d.claims = &token.Mapping{User: "sub"}
			lines := y.Object(n, in, strictyaml.Fields{
				"user":    y.text(in, "claims.user", &d.claims.User),
				"company": y.text(in, "claims.company", &d.claims.Company),
				"email":   y.text(in, "claims.email", &d.claims.Email),
				"roles":   y.text(in, "claims.roles", &d.claims.Roles),
			})
			for _, c := range []struct{ key, path string }{
				{"user", d.claims.User}, {"company", d.claims.Company}, {"email", d.claims.Email}, {"roles", d.claims.Roles},
			} {
				if err := token.CheckPath(c.path); c.path != "" && err != nil {
					y.Fault(lines.Of(c.key), in, "claims.%s: %v", c.key, err)
				}
			}
		},
		"role":          y.text(in, "role", &d.role),
		"audience":      y.text(in, "audience", &d.audience),
		"leeway":        y.duration(in, "leeway", &d.leeway),
		"until":         y.instant(in, "until", &d.until),
		"sessions":      y.Boolean(in, "sessions", &d.sessions),
		"user_check":    y.one(in, "user_check", &d.userCheck, required, off),
		"company_check": y.one(in, "company_check", &d.companyTest, required, off),
	})
	add := func(key, format string, args ...any) {
		y.Fault(at.Of(key), in, format, args...)
	}
	for _, key := range []string{"name", "algorithms", "keys"} {
		if !at.Has(key) {
			add(key, "%s is missing", key)
		}
	}
	switch {
	case d.name == "":
	case d.name == token.Own:
		add("name", "name: %s is what our own issuer is called", token.Own)
	case !nameOf.MatchString(d.name):
		add("name", "name: want up to 32 lower-case letters, digits, _ and -; it is a label of the metrics")
	}
	switch {
	case !at.Has("profile") && !at.Has("claims"):
		add("profile", "profile or claims is missing")
	case at.Has("profile") && at.Has("claims"):
		add("claims", "claims stands together with profile; only one of them can count")
	case d.profile == profileSupabase && d.role != "":
		add("role", "role: the profile supabase says itself that it is authenticated")
	case d.claims != nil && d.audience == "" && !at.Has("audience"):
		add("audience", "audience is missing: tokens that this issuer makes for somebody else would be accepted")
	}
	switch {
	case d.userCheck == off && d.profile == profileNative:
		add("user_check", "user_check: off is not for the profile native, whose users are in the database")
	case d.userCheck == off && d.companyTest == required:
		add("company_check", "company_check: is required, but user_check is off, with which no company is looked up")
	case d.userCheck == off && d.sessions:
		add("sessions", "sessions: sessions of ours are those of users who are looked up")
	}
	algorithmsAreSound(&d, add)
	e := entry{line: n.Line, userCheck: d.userCheck == required, terms: d.terms()}
	if len(y.Faults) > before {
		return e, false
	}
	if err := s.keys(&d, &e); err != nil {
		add("keys", "keys: %v", err)
		return e, false
	}
	// What is left are contradictions between the parts.
	if _, err := token.NewTrusted(e.terms); err != nil {
		y.Fault(n.Line, in, "%v", err)
		return e, false
	}
	return e, true
}

// nameIn is the name of an issuer, for faults.
func nameIn(n *yaml.Node) string {
	for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == "name" && nameOf.MatchString(n.Content[i+1].Value) {
			return n.Content[i+1].Value
		}
	}
	return ""
}

// algorithmsAreSound holds the algorithms together with the kind of keys: a shared
// secret has exactly one, and no other key has one of HS*.
func algorithmsAreSound(d *draft, add func(key, format string, args ...any)) {
	for i, alg := range d.algorithms {
		switch shared, known := token.Shared(alg); {
		case !known:
			// Whatever is longer than the name of any may be something else.
			if len(alg) > len("HS256ES") {
				alg = ""
			}
			add("algorithms", "algorithms: unknown algorithm %q", alg)
		case slices.Contains(d.algorithms[:i], alg):
			add("algorithms", "algorithms: %s stands there twice", alg)
		case d.secret != "" && !shared:
			add("algorithms", "algorithms: %s does not use a shared secret", alg)
		case (d.at != "" || d.pem != "") && shared:
			add("algorithms", "algorithms: %s uses a shared secret, which is nothing that is published", alg)
		}
	}
	if (d.secret != "" || d.pem != "") && len(d.algorithms) > 1 {
		add("algorithms", "algorithms: one key has one algorithm")
	}
	if len(d.algorithms) == 0 {
		add("algorithms", "algorithms: want at least one")
	}
}

func (d *draft) terms() token.Terms {
	t := token.Terms{
		Issuer: d.issuer, Algorithms: d.algorithms, Claims: d.claims, Role: d.role, Audience: d.audience,
		Leeway: d.leeway, Sessions: d.sessions,
		Beyond: identity.Issuer{
			Name: d.name, Until: d.until, SkipUserCheck: d.userCheck == off,
			SkipCompanyCheck: d.companyTest == off || d.userCheck == off,
			TokenRoles:       d.claims != nil && d.claims.Roles != "",
		},
	}
	if d.profile == profileSupabase {
		t.Profile = token.Supabase
		t.Beyond.TokenRoles = true
		t.Beyond.SkipCompanyCheck = d.companyTest != required
	}
	return t
}

// keys reads those of an issuer. Its errors repeat nothing of them.
func (s *source) keys(d *draft, e *entry) (err error) {
	switch {
	case d.secret != "":
		var text []byte
		if text, err = s.read(d.secret); err != nil {
			return err
		}
		e.terms.Keys, err = secretSet(text, d.algorithms[0])
	case d.set != "":
		var text []byte
		if text, err = s.read(d.set); err != nil {
			return err
		}
		e.terms.Keys, err = token.PinnedSet(text, d.algorithms)
	case d.pem != "":
		var text []byte
		if text, err = s.read(d.pem); err != nil {
			return err
		}
		var k token.Key
		if k, err = token.PublicKey(text, d.algorithms[0]); err == nil {
			e.terms.Keys, err = token.NewKeySet(k)
		}
	default:
		if e.url, err = published(d.at); err == nil {
			e.terms.Keys, err = token.RemoteSet(d.algorithms).KeySet()
		}
	}
	return err
}

func secretSet(text []byte, alg string) (*token.KeySet, error) {
	// The one line break that editors and echo put at the end.
	secret := strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r")
	switch {
	case len(secret) < leastSecret:
		return nil, fmt.Errorf("the secret has fewer than %d bytes", leastSecret)
	case strings.HasPrefix(strings.TrimSpace(secret), "-----BEGIN"):
		// Whoever knows a public key could sign with it.
		return nil, errors.New("this is a PEM key, and no shared secret")
	}
	k, err := token.SecretKey([]byte(secret), alg)
	if err != nil {
		return nil, err
	}
	return token.NewKeySet(k)
}

// published is where a set is fetched. Keys that came over a wire that anyone may
// write to would be anyone's.
func published(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil, u.Host == "", u.Scheme != "https" && u.Scheme != "http":
		return nil, errors.New("jwks_url is no https URL")
	case u.User != nil:
		return nil, errors.New("jwks_url has a user or a password in it")
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return nil, errors.New("jwks_url is not https: whoever can answer in its place could sign")
	}
	return u, nil
}

func loopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}
