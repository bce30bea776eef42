package activity

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/atenex/gatehouse/internal/identity"
)

// person is user n with an address, a session and a company, as they come from
// the driver: each text an allocation of its own.
func person(q identity.Question) identity.Standing {
	n := binary.BigEndian.Uint64(q.User[8:])
	at := time.UnixMicro(int64(n)).UTC()
	return identity.Standing{
		Exists: true, Active: true, Email: fmt.Sprintf("user%07d@example.com", n),
		Session:     identity.Session{Exists: true, AuthTime: at, ValidFrom: at, NotAfter: at},
		Memberships: []identity.Membership{{Company: q.Company, Role: string([]byte("user"))}},
	}
}

func questionOf(n uint64) identity.Question {
	var q identity.Question
	binary.BigEndian.PutUint64(q.User[8:], n)
	binary.BigEndian.PutUint64(q.Session[8:], n)
	binary.BigEndian.PutUint64(q.Company[8:], n%10_000)
	return q
}

func newBenchCache(b *testing.B, bytes int64) *Cache {
	b.Helper()
	c, err := New(Options{
		Store: storeFunc(func(_ context.Context, questions []identity.Question) ([]identity.Standing, error) {
			out := make([]identity.Standing, len(questions))
			for i, q := range questions {
				out[i] = person(q)
			}
			return out, nil
		}),
		Bytes:       bytes,
		ProofOfLife: time.Hour,
		Registerer:  prometheus.NewRegistry(),
		Logger:      slog.New(slog.DiscardHandler),
	})
	if err != nil {
		b.Fatal(err)
	}
	c.Alive(time.Now())
	return c
}

// fill puts n users into memory as reads would.
func fill(b *testing.B, c *Cache, n uint64) {
	b.Helper()
	now := c.now()
	for i := range n {
		q := questionOf(i)
		c.remember(&flight{key: keyOf(q), question: q, before: c.mark(q, now), standing: person(q)}, now)
	}
}

func BenchmarkWarmLookup(b *testing.B) {
	for _, users := range []uint64{1, 100_000} {
		b.Run(fmt.Sprintf("%d users", users), func(b *testing.B) {
			c := newBenchCache(b, DefaultBytes)
			fill(b, c, users)
			b.ReportAllocs()
			var n uint64
			for b.Loop() {
				q := questionOf(n % users)
				n += 7919
				if _, err := c.Standing(context.Background(), q.User, q.Session, q.Company); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkWarmLookupParallel(b *testing.B) {
	c := newBenchCache(b, DefaultBytes)
	fill(b, c, 1000)
	b.ReportAllocs()
	var next atomic.Uint64
	b.RunParallel(func(pb *testing.PB) {
		n := next.Add(1)
		for pb.Next() {
			q := questionOf(n % 1000)
			n++
			if _, err := c.Standing(context.Background(), q.User, q.Session, q.Company); err != nil {
				b.Error(err)
			}
		}
	})
}

func BenchmarkColdLookup(b *testing.B) {
	c := newBenchCache(b, DefaultBytes)
	b.ReportAllocs()
	var next atomic.Uint64
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			q := questionOf(next.Add(1))
			if _, err := c.Standing(context.Background(), q.User, q.Session, q.Company); err != nil {
				b.Error(err)
			}
		}
	})
}

// BenchmarkMillionUsers prints what a million users cost: by our own count and by
// what the heap grew.
func BenchmarkMillionUsers(b *testing.B) {
	const users = 1_000_000
	for b.Loop() {
		before := heap()
		c := newBenchCache(b, DefaultBytes)
		fill(b, c, users)
		grown := heap() - before
		entries, bytes := c.memory.figures()
		if entries != users {
			b.Errorf("%d of %d users were remembered", entries, users)
		}
		b.ReportMetric(float64(bytes)/1e6, "MB-counted")
		b.ReportMetric(float64(grown)/1e6, "MB-heap")
		runtime.KeepAlive(c)
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
