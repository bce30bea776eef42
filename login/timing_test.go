package login_test

import (
	"cmp"
	"context"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/atenex/gatehouse/internal/identity"
	"github.com/atenex/gatehouse/internal/password"
	"github.com/atenex/gatehouse/login"
)

// What a stranger with a clock could tell of a failed login. That every class of
// failure waits for the same moment is shown on a clock that stands still, by
// TestEveryWrongLoginLooksTheSame; here a real clock is read as a stranger would, so
// that what is done beside the waiting shows too.
//
// Nothing is compared with a duration but the floor, which no answer may come before
// on any machine. Everything else is ranks: the classes are asked in random order,
// so that a machine with too much to do is as slow to one as to another, and the mean
// rank of a class says whether it is told from the others. A class is only found
// guilty in three samples of its own: by chance that is once in some 10^9 runs (each
// time 9 classes, beyond 4 standard deviations: 6 in 10^4).

// telling is how many standard deviations the mean rank of a class may be off.
const telling = 4

// samplings is how often a class has to be told from the others, on fresh answers.
const samplings = 3

// failure is one way in which a login fails.
type failure struct {
	name  string
	email string
	words string
}

// everyFailure is each class that a stranger might want to tell from another, and the
// accounts that they need.
func everyFailure(t *testing.T, argon, bcrypt *password.Hasher) ([]failure, store) {
	t.Helper()
	hash := func(h *password.Hasher, words string) string {
		text, err := h.Hash(context.Background(), words)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	long := strings.Repeat("a", 80)
	accounts := map[string]identity.Account{}
	with := func(email, hash string, active bool) string {
		a := person(email, hash)
		a.ID, a.Active = ada, active
		accounts[email] = a
		return email
	}
	ofArgon, ofBcrypt := hash(argon, rightWords), hash(bcrypt, rightWords)
	all := []failure{
		{"an unknown address", nobodyEmail, rightWords},
		{"a wrong password on argon2id", with("argon@example.com", ofArgon, true), wrongWords},
		{"a wrong password on bcrypt", with("bcrypt@example.com", ofBcrypt, true), wrongWords},
		{"no password set", with("unset@example.com", "", true), rightWords},
		{"a hash that cannot be used", with("unusable@example.com", "!locked", true), rightWords},
		{"bcrypt of an absurd cost", with("dear@example.com", bcryptDear, true), rightWords},
		{"an inactive user with the right password", with("inactive@example.com", ofArgon, false), rightWords},
		{"an inactive user of bcrypt with the right password", with("inactive-bcrypt@example.com", ofBcrypt, false), rightWords},
		{"more than 72 bytes on bcrypt", with("long@example.com", hash(bcrypt, long[:72]), true), long},
	}
	return all, store{
		accountByEmail: func(_ context.Context, email string) (identity.Account, error) {
			if a, ok := accounts[email]; ok {
				return a, nil
			}
			return identity.Account{}, identity.ErrNotFound
		},
		audit: func(context.Context, identity.Event) error { return nil },
	}
}

func hasherOf(t *testing.T, o password.Options) *password.Hasher {
	t.Helper()
	h, err := password.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestNoFailureIsToldFromAnotherByItsTime(t *testing.T) {
	// As many at once as permits, since nearly all of the time is waiting. The hashes
	// are cheap, and still a factor of ten apart, as in a table of two schemes.
	const atOnce = 16
	cheap := hasherOf(t, password.Options{Argon2id: password.Argon2idCost{MemoryKiB: 64, Passes: 1, Lanes: 1}, Processors: atOnce})
	if err := cheap.Calibrate(t.Context(), 4); err != nil {
		t.Fatal(err)
	}
	failures, s := everyFailure(t, cheap, hasherOf(t, password.Options{Scheme: password.Bcrypt, BcryptCost: 4}))
	g := newStage(t, s, func(o *login.Options) { o.Passwords = cheap })
	g.passwords = cheap
	g.holdTimes(failures, 16, atOnce)
}

// The same with the hashes of production, calibrated as login is at its start, and
// one at a time, so that a millisecond can be seen.
func TestNoFailureIsToldFromAnotherByItsTimeInProduction(t *testing.T) {
	if os.Getenv("GATEHOUSE_TIMING") == "" {
		t.Skip("takes minutes: make check-timing")
	}
	own := hasherOf(t, password.Options{})
	if err := own.Calibrate(t.Context(), 12); err != nil {
		t.Fatal(err)
	}
	failures, s := everyFailure(t, own, hasherOf(t, password.Options{Scheme: password.Bcrypt, BcryptCost: 12}))
	g := newStage(t, s, func(o *login.Options) { o.Passwords = own })
	g.passwords = own
	g.holdTimes(failures, 50, 1)
}

// holdTimes asks for every failure so many times in a sampling, so many at once.
func (g *stage) holdTimes(failures []failure, rounds, atOnce int) {
	g.t.Helper()
	suspects := make([]bool, len(failures))
	for i := range suspects {
		suspects[i] = true
	}
	for range samplings {
		times := g.timesOf(failures, rounds, atOnce)
		for i, z := range deviations(times) {
			g.t.Logf("%-52s median %v, %+.1f", failures[i].name, median(times[i]), z)
			suspects[i] = suspects[i] && math.Abs(z) > telling
		}
		if !slices.Contains(suspects, true) {
			return
		}
	}
	for i, guilty := range suspects {
		if guilty {
			g.t.Errorf("%s is told from the others by its time", failures[i].name)
		}
	}
}

// timesOf are how long each failure took, asked for in random order.
func (g *stage) timesOf(failures []failure, rounds, atOnce int) [][]time.Duration {
	g.t.Helper()
	order := make([]int, 0, rounds*len(failures))
	for range rounds {
		order = append(order, rand.Perm(len(failures))...)
	}
	// Within atOnce of one another, who comes first is chance as well.
	rand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	times := make([][]time.Duration, len(failures))
	var mu sync.Mutex
	var all sync.WaitGroup
	next := make(chan int)
	for range atOnce {
		all.Go(func() {
			for i := range next {
				floor := g.passwords.Floor() // it only ever rises
				start := time.Now()
				w := g.send(credentials(failures[i].email, failures[i].words))
				took := time.Since(start)
				if w.Code != http.StatusUnauthorized || w.Body.String() != badCredentials {
					g.t.Errorf("%s: got %d %s", failures[i].name, w.Code, w.Body)
				}
				if took < floor {
					g.t.Errorf("%s was answered after %v, before the floor of %v", failures[i].name, took, floor)
				}
				mu.Lock()
				times[i] = append(times[i], took)
				mu.Unlock()
			}
		})
	}
	for _, i := range order {
		next <- i
	}
	close(next)
	all.Wait()
	return times
}

// deviations are those of the mean ranks of the classes from what they would be if all
// were alike, in standard deviations (Kruskal and Wallis 1952). The ranks of n answers
// out of N have the mean (N+1)/2, and theirs the variance (N+1)(N-n)/12n.
func deviations(classes [][]time.Duration) []float64 {
	type answer struct {
		took  time.Duration
		class int
	}
	var all []answer
	for class, times := range classes {
		for _, took := range times {
			all = append(all, answer{took, class})
		}
	}
	slices.SortFunc(all, func(a, b answer) int { return cmp.Compare(a.took, b.took) })
	ranks := make([]float64, len(classes))
	for rank, a := range all {
		ranks[a.class] += float64(rank + 1)
	}
	found := make([]float64, len(classes))
	total := float64(len(all))
	for class, sum := range ranks {
		n := float64(len(classes[class]))
		found[class] = (sum/n - (total+1)/2) / math.Sqrt((total+1)*(total-n)/(12*n))
	}
	return found
}

func median(times []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(times))
	return sorted[len(sorted)/2].Round(10 * time.Microsecond)
}

// The measure itself: how often it cries wolf, and what it does not miss. The numbers
// are those of the tests above, the waiting is drawn as the floor's is.
func TestTheMeasureOfTimesFindsWhatIsThereAndNothingElse(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2)) // the same numbers each time
	const classes = 9
	guilty := func(rounds int, late time.Duration) bool {
		for range samplings {
			times := make([][]time.Duration, classes)
			for class := range times {
				for range rounds {
					took := 250*time.Millisecond + time.Duration(r.Int64N(int64(50*time.Millisecond)))
					// A machine that does something else now and then.
					took += time.Duration(r.ExpFloat64() * float64(2*time.Millisecond))
					if class == 2 {
						took += late
					}
					times[class] = append(times[class], took)
				}
			}
			if math.Abs(deviations(times)[2]) <= telling {
				return false
			}
		}
		return true
	}
	tests := []struct {
		name   string
		rounds int
		late   time.Duration
		want   float64 // the least share of runs in which it is found; 0: in none
	}{
		{"nothing, in a short run", 16, 0, 0},
		{"nothing, in a long run", 50, 0, 0},
		{"30 ms, in a short run", 16, 30 * time.Millisecond, 0.95},
		{"30 ms less, in a short run", 16, -30 * time.Millisecond, 0.95},
		{"20 ms, in a long run", 50, 20 * time.Millisecond, 0.95},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			const runs = 200
			found := 0
			for range runs {
				if guilty(tt.rounds, tt.late) {
					found++
				}
			}
			if share := float64(found) / runs; share < tt.want || tt.want == 0 && found > 0 {
				t.Errorf("found in %d of %d runs", found, runs)
			}
		})
	}
}
