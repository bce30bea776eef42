package main

import (
	"time"

	"github.com/atenex/gatehouse/tests/bench/load"
)

// deck is the requests of one comparison. Warm, everybody takes from the same few
// users; cold, each pair of rounds has users of its own, which the contestant
// meets once and never again. The no-op, who remembers nobody, gets the same.
type deck struct {
	warm, cold         *load.Credentials
	closedEach         int // users for a pair of rounds
	pacedEach, pacedAt int // likewise, and where the first of them is
}

// deal shares the cold users out: what the fixed rate needs, and the rest in equal
// parts to the closed loop, whose rounds end early if theirs run out.
func (a *arena) deal(m matter, closed, paced int) deck {
	d := deck{warm: a.people.Warm}
	if !m.cold {
		return d
	}
	d.cold = a.people.Many
	d.pacedEach = int(int64(a.perSecond) * int64(a.warmUp+a.paced) / int64(time.Second))
	d.closedEach = max(0, d.cold.Len()-paced*d.pacedEach) / closed
	d.pacedAt = closed * d.closedEach
	return d
}

func (d deck) closed(i int) func() *load.Requests {
	return d.take(i*d.closedEach, (i+1)*d.closedEach)
}

func (d deck) paced(i int) func() *load.Requests {
	return d.take(d.pacedAt+i*d.pacedEach, d.pacedAt+(i+1)*d.pacedEach)
}

func (d deck) take(from, to int) func() *load.Requests {
	if d.cold == nil {
		return func() *load.Requests { return load.Everyone(d.warm) }
	}
	return func() *load.Requests { return load.Once(d.cold, from, to) }
}
