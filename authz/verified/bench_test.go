package verified_test

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unsafe"
)

func BenchmarkHit(b *testing.B) {
	for _, tokens := range []int{1, 50_000} {
		b.Run(fmt.Sprintf("%d tokens", tokens), func(b *testing.B) {
			f := newCache(b, &counting{say: anHour}, 0)
			raws := make([]string, tokens)
			for i := range raws {
				raws[i] = fmt.Sprintf("%0400d", i)
				f.accepts(b, raws[i], start)
			}
			at := time.Now() // with a monotonic reading, as the gate's clock has it
			at = at.Add(start.Sub(at))
			n := 0
			b.ReportAllocs()
			for b.Loop() {
				if _, err := f.Verify(raws[n%tokens], at); err != nil {
					b.Fatal(err)
				}
				n += 7919
			}
			if f.metric(b, "misses_total") > float64(tokens) {
				b.Error("not all of them were hits")
			}
		})
	}
}

// The worst case for the lock: everybody has the same token.
func BenchmarkHitParallel(b *testing.B) {
	f := newCache(b, &counting{say: anHour}, 0)
	raw := strings.Repeat("x", 400)
	f.accepts(b, raw, start)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			_, _ = f.Verify(raw, start)
		}
	})
}

func BenchmarkMiss(b *testing.B) {
	f := newCache(b, &counting{say: anHour}, 0)
	raw := []byte(strings.Repeat("x", 400))
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		n++
		copy(raw, fmt.Sprintf("%09d", n))
		_, _ = f.Verify(unsafe.String(&raw[0], len(raw)), start)
	}
}
