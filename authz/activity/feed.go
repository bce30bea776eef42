package activity

import (
	"time"

	"github.com/atenex/gatehouse/internal/identity"
)

// User forgets what is remembered of a user.
func (c *Cache) User(id identity.UserID) {
	c.userCounter(id).Add(1)
	c.observer.invalidated.user.Inc()
}

// Session forgets what is remembered of a session.
func (c *Cache) Session(id identity.SessionID) {
	c.sessionCounter(id).Add(1)
	c.observer.invalidated.session.Inc()
}

// Company forgets what is remembered of everybody in a company.
func (c *Cache) Company(id identity.CompanyID) {
	// In this order: remember reads the one company's counter first, and then this
	// one to see whether the former may have moved.
	c.generations.companies.Add(1)
	c.companyCounter(id).Add(1)
	c.observer.invalidated.company.Inc()
}

// Flush forgets everything.
func (c *Cache) Flush() {
	if c.flaw != flawNoFlush {
		c.generations.flush.Add(1)
	}
	c.observer.invalidated.flush.Inc()
}

// Alive takes a proof that every change committed before at has been told. One
// that is older than the last is no news.
func (c *Cache) Alive(at time.Time) {
	sent := c.since(at)
	if last := c.proof.at(); sent.mono > last.mono {
		c.proof.set(sent)
	}
	c.observer.alive(time.Duration(c.now().mono - sent.mono))
}

// Lost ends the use of memory until the next proof of life.
func (c *Cache) Lost(reason string) {
	c.proof.lose()
	if c.flaw != flawNoFlush {
		c.generations.flush.Add(1) // also for the reads that are under way
	}
	c.observer.lost(reason)
}
