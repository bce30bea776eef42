// Package issuers keeps the issuers whose tokens are accepted beside our own: it
// reads the file that names them and the files of their keys, looks after the key
// sets that they publish, and takes up every change. What is wrong with a changed
// file is said once, and what was in force stays.
//
// It must never know what a token is good for, where users are stored, nor a setting
// by its name; it reads no environment.
package issuers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/atenex/gatehouse/internal/keyring"
	"github.com/atenex/gatehouse/internal/token"
)

// Options is what a Book is made of. File and Verifier are needed, and for Open
// Registerer and Logger too.
type Options struct {
	// File is the absolute name of the file.
	File string
	// Verifier accepts our own tokens, and is told of the others.
	Verifier *token.Verifier
	// OwnURL is where keys are fetched that count as our own; nil: nowhere.
	OwnURL *url.URL
	// SkipUserCheck: nobody is looked up at all, whatever an issuer wants.
	SkipUserCheck bool
	// Counter makes the counter of an issuer's keys; see [keyring.Options].
	Counter func(issuer string) func(token.Key) func()
	// Proxy is that of http.Transport; nil: none.
	Proxy func(*http.Request) (*url.URL, error)

	Timing     keyring.Timing
	Registerer prometheus.Registerer
	Logger     *slog.Logger
}

// Book is the issuers in force. It may be used by several goroutines.
type Book struct {
	with    Options
	metrics metrics
	seen    seen // of Run's goroutine alone

	change  sync.Mutex
	members []*member
	hooks   []func()
	launch  func(*fetch) // nil: Run does not run
}

// member is one issuer in force.
type member struct {
	entry
	trusted *token.Trusted
	keys    *token.KeySet // those of files; nil: fetched
	fetch   *fetch
	shared  int // fetched keys that are somebody else's, and were left out
}

// fetch looks after one set that is published. It outlives a change of the file that
// does not concern it, so that no key has to be fetched anew.
type fetch struct {
	issuer  string
	of      string // the issuer, the URL and the algorithm
	ring    *keyring.Ring
	metrics *shelf
	hangups chan os.Signal
	stop    context.CancelFunc // nil: not started
}

// Check says what is wrong with a file, as Open does, and starts nothing.
func Check(o Options) error {
	f, err := readIssuers(o.File)
	if err != nil {
		return err
	}
	_, err = o.assemble(f)
	return err
}

// Open reads the file and has the verifier trust the issuers in it. Its error is
// [Faults], and one of the settings.
func Open(o Options) (*Book, error) {
	if o.Registerer == nil || o.Logger == nil {
		return nil, errors.New("a book of issuers needs a metrics registry and a logger")
	}
	f, err := readIssuers(o.File)
	if err != nil {
		return nil, err
	}
	b := &Book{with: o, seen: seen{inForce: f.digest}}
	if b.metrics, err = newMetrics(o.Registerer); err != nil {
		return nil, err
	}
	members, err := o.assemble(f)
	if err != nil {
		return nil, err
	}
	if err := b.take(members); err != nil {
		return nil, err
	}
	return b, nil
}

// assemble makes issuers of what was read, without those parts that run.
func (o Options) assemble(f file) ([]*member, error) {
	base := filepath.Base(o.File)
	var faults Faults
	members := make([]*member, len(f.entries))
	trusted := make([]*token.Trusted, len(f.entries))
	urls := map[string]string{}
	if o.OwnURL != nil {
		urls[o.OwnURL.String()] = "our own keys are"
	}
	for i, e := range f.entries {
		m := &member{entry: e}
		members[i] = m
		add := func(text string) {
			faults = append(faults, Fault{File: base, Line: e.line, In: e.in(), Text: text})
		}
		if e.userCheck && o.SkipUserCheck {
			add("user_check: is required, but the gateway looks up nobody")
		}
		if e.url == nil {
			m.keys = e.terms.Keys
			if o.Counter != nil {
				m.keys = m.keys.Counted(o.Counter(e.terms.Beyond.Name))
			}
		} else {
			if whose, taken := urls[e.url.String()]; taken {
				add("keys: " + whose + " fetched from the same jwks_url")
			}
			urls[e.url.String()] = "those of " + e.terms.Beyond.Name + " are"
			m.terms.Await = func(kid string) { m.fetch.ring.Await(kid) }
		}
		var err error
		if trusted[i], err = token.NewTrusted(m.terms); err != nil {
			return nil, err // which reading it has seen already
		}
		m.trusted = trusted[i]
	}
	for _, c := range o.Verifier.Conflicts(trusted) {
		e := f.entries[c.Index]
		faults = append(faults, Fault{File: base, Line: e.line, In: e.in(), Text: c.Text})
	}
	return members, faults.Err()
}

// take puts members in force.
func (b *Book) take(members []*member) error {
	b.change.Lock()
	defer b.change.Unlock()
	going := map[string]*fetch{}
	for _, m := range b.members {
		if m.fetch != nil {
			going[m.fetch.of] = m.fetch
		}
	}
	for _, m := range members {
		if m.url != nil {
			m.fetch = going[m.fetched()]
			delete(going, m.fetched())
		}
	}
	for _, f := range going { // before others take their names
		f.end()
	}
	var trusted []*token.Trusted
	for _, m := range members {
		trusted = append(trusted, m.trusted)
		if m.url == nil || m.fetch != nil {
			continue
		}
		f, err := b.begin(m)
		if err != nil {
			return err
		}
		m.fetch = f
	}
	b.members = members
	b.settle()
	if err := b.with.Verifier.Trust(trusted); err != nil {
		return err
	}
	b.metrics.issuers.Set(float64(len(members)))
	b.told()
	return nil
}

func (m *member) fetched() string {
	return m.terms.Beyond.Name + " " + m.url.String() + " " + token.RemoteSet(m.terms.Algorithms).Algorithm
}

func (b *Book) begin(m *member) (*fetch, error) {
	name := m.terms.Beyond.Name
	f := &fetch{issuer: name, of: m.fetched(), metrics: &shelf{Registerer: b.with.Registerer}, hangups: make(chan os.Signal, 1)}
	o := keyring.Options{
		Sources: token.RemoteSet(m.terms.Algorithms), URL: m.url, Proxy: b.with.Proxy, Issuer: name,
		Timing: b.with.Timing, Registerer: f.metrics, Logger: b.with.Logger.With("issuer", name),
	}
	if b.with.Counter != nil {
		o.Counter = b.with.Counter(name)
	}
	var err error
	if f.ring, err = keyring.New(o); err != nil {
		f.metrics.clear()
		return nil, fmt.Errorf("issuer %q: %w", name, err)
	}
	f.ring.OnChange(func(*token.KeySet) { b.Refresh() })
	if b.launch != nil {
		b.launch(f)
	}
	return f, nil
}

func (f *fetch) end() {
	if f.stop != nil {
		f.stop()
	}
	f.metrics.clear()
}

// Refresh is for after our own keys changed: no key may be ours and another's.
func (b *Book) Refresh() {
	b.change.Lock()
	defer b.change.Unlock()
	b.settle()
	b.told()
}

// settle puts every issuer's keys in force, without those that somebody has before
// it: we, or one that stands further up in the file.
func (b *Book) settle() {
	others := []*token.KeySet{b.with.Verifier.Keys()}
	for _, m := range b.members {
		all := m.keys
		if m.fetch != nil {
			all = m.fetch.ring.Keys()
		}
		mine, shared := all.Without(others...)
		m.trusted.Replace(mine)
		if shared != m.shared && shared > 0 {
			b.with.Logger.Error("keys of an issuer are another's too, and were left out of its", "issuer", m.terms.Beyond.Name, "keys", shared)
		}
		m.shared = shared
		others = append(others, all)
	}
}

func (b *Book) told() {
	for _, hook := range b.hooks {
		hook()
	}
}

// OnChange has hook called after every change of an issuer or of a key, when no answer
// by the old ones is given any more but for those that were being worked on.
func (b *Book) OnChange(hook func()) {
	b.change.Lock()
	defer b.change.Unlock()
	b.hooks = append(b.hooks, hook)
}

// Settled are closed, each, when a published set was fetched for the first time.
func (b *Book) Settled() (all []<-chan struct{}) {
	for _, f := range b.fetches() {
		all = append(all, f.ring.Settled())
	}
	return all
}

func (b *Book) fetches() (all []*fetch) {
	b.change.Lock()
	defer b.change.Unlock()
	for _, m := range b.members {
		if m.fetch != nil {
			all = append(all, m.fetch)
		}
	}
	return all
}

// Fetch fetches every published set once, for those who do not Run.
func (b *Book) Fetch(ctx context.Context) error {
	var errs []error
	for _, f := range b.fetches() {
		if err := f.ring.Fetch(ctx); err != nil {
			errs = append(errs, fmt.Errorf("fetching the key set of the issuer %s: %w", f.issuer, err))
		}
	}
	return errors.Join(errs...)
}

// Issuer is one of the book, for those who tell of it.
type Issuer struct {
	Name, Issuer string
	Algorithms   []string
	Keys         []token.KeyOf
	Until        time.Time
	// Unchecked tells that its users are not looked up.
	Unchecked bool
}

// Issuers are those in force, in the order of the file.
func (b *Book) Issuers() []Issuer {
	b.change.Lock()
	defer b.change.Unlock()
	out := make([]Issuer, len(b.members))
	for i, m := range b.members {
		out[i] = Issuer{
			Name: m.terms.Beyond.Name, Issuer: m.terms.Issuer, Algorithms: slices.Clone(m.terms.Algorithms),
			Keys: m.trusted.Keys().Describe(), Until: m.terms.Beyond.Until, Unchecked: m.terms.Beyond.SkipUserCheck,
		}
	}
	return out
}
