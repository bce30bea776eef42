package issuers

import (
	"context"
	"crypto/sha256"
	"os"
	"sync"
	"time"
)

// defaultPoll is that of package keyring.
const defaultPoll = time.Second

// seen is what was seen of the files, by their contents: in a volume of Kubernetes a
// name leads through links that are replaced, and a file system may have seconds only.
type seen struct {
	inForce [sha256.Size]byte
	// bad is what cannot be used. It is spoken of when it is still there at the next
	// look: a file that is being written is read in halves, and of several files one
	// is changed before the other.
	bad    [sha256.Size]byte
	isBad  bool
	spoken bool
}

// Run looks after the files and the published sets until ctx ends. A value on hangups
// makes it look at once.
func (b *Book) Run(ctx context.Context, hangups <-chan os.Signal) {
	var running sync.WaitGroup
	defer running.Wait()
	b.change.Lock()
	b.launch = func(f *fetch) {
		fetching, stop := context.WithCancel(ctx)
		f.stop = stop
		running.Go(func() { f.ring.Run(fetching, f.hangups) })
	}
	for _, m := range b.members {
		if m.fetch != nil {
			b.launch(m.fetch)
		}
	}
	b.change.Unlock()
	defer func() {
		b.change.Lock()
		defer b.change.Unlock()
		b.launch = nil
		for _, m := range b.members {
			if m.fetch != nil && m.fetch.stop != nil {
				m.fetch.stop()
			}
		}
	}()

	poll := b.with.Timing.Poll
	if poll <= 0 {
		poll = defaultPoll
	}
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			b.look(false)
		case s := <-hangups:
			b.look(true)
			for _, f := range b.fetches() {
				select {
				case f.hangups <- s:
				default: // one is waiting already
				}
			}
		}
	}
}

// look reads the files and puts them in force if they have changed. now speaks of bad
// ones at first sight.
func (b *Book) look(now bool) {
	f, err := readIssuers(b.with.File)
	if f.digest == b.seen.inForce && err == nil {
		b.seen.isBad, b.seen.spoken = false, false
		return
	}
	again := b.seen.isBad && f.digest == b.seen.bad
	if again && b.seen.spoken && !now {
		return
	}
	if err == nil {
		var members []*member
		if members, err = b.with.assemble(f); err == nil {
			err = b.take(members)
		}
	}
	if err == nil {
		b.seen = seen{inForce: f.digest}
		b.metrics.reloads.WithLabelValues("ok").Inc()
		b.with.Logger.Info("the issuers have changed", "issuers", names(b.Issuers()))
		return
	}
	b.seen.bad, b.seen.isBad, b.seen.spoken = f.digest, true, again || now
	if b.seen.spoken {
		b.metrics.reloads.WithLabelValues("refused").Inc()
		b.with.Logger.Error("the issuers in the file cannot be used; those of before stay in force", "error", err)
	}
}

func names(issuers []Issuer) []string {
	out := make([]string, len(issuers))
	for i, e := range issuers {
		out[i] = e.Name
	}
	return out
}
