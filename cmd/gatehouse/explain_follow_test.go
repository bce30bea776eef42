package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

// rotated is a log that somebody writes: the file, with the full ones beside it.
type rotated struct {
	t    *testing.T
	name string
	keep int
}

func (r rotated) write(lines ...string) {
	r.t.Helper()
	f, err := os.OpenFile(r.name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, line := range lines {
		fmt.Fprintln(f, line)
	}
	if err := f.Close(); err != nil {
		r.t.Fatal(err)
	}
}

// turn moves the full files up by one, as the decision log does.
func (r rotated) turn() {
	r.t.Helper()
	for n := r.keep - 1; n >= 0; n-- {
		from := r.name
		if n > 0 {
			from += "." + strconv.Itoa(n)
		}
		if err := os.Rename(from, r.name+"."+strconv.Itoa(n+1)); err != nil && !os.IsNotExist(err) {
			r.t.Fatal(err)
		}
	}
}

// followed is what a follower has told so far.
type followed struct {
	mu    sync.Mutex
	lines []string
}

func (f *followed) tell(line []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lines = append(f.lines, string(line))
	return nil
}

func (f *followed) until(t *testing.T, want ...string) {
	t.Helper()
	deadline, again := time.After(20*time.Second), time.NewTicker(time.Millisecond)
	defer again.Stop()
	for late := false; ; {
		f.mu.Lock()
		got := slices.Clone(f.lines)
		f.mu.Unlock()
		if slices.Equal(got, want) {
			return
		}
		if len(got) > len(want) || late {
			t.Fatalf("%d lines are told, want %d: %.300q", len(got), len(want), got)
		}
		select {
		case <-again.C:
		case <-deadline:
			late = true
		}
	}
}

// follow begins at the end of what is there.
func follow(t *testing.T, name string, every time.Duration) *followed {
	t.Helper()
	f, got := &follower{name: name, every: every}, &followed{}
	if err := f.open(false); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f.run(ctx, got.tell) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return got
}

func TestAFileIsFollowedThroughItsNames(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		keep int
		do   func(r rotated, got *followed)
		want []string
	}{
		{"as it grows", 3, func(r rotated, _ *followed) { r.write("a", "b") }, []string{"a", "b"}},
		{"into the next one", 3, func(r rotated, _ *followed) { r.write("a"); r.turn(); r.write("b") }, []string{"a", "b"}},
		{
			"through one that was full before it was looked at", 3,
			func(r rotated, _ *followed) { r.write("a"); r.turn(); r.write("b"); r.turn(); r.write("c") },
			[]string{"a", "b", "c"},
		},
		{
			"through several, the first of which is no longer kept", 2,
			func(r rotated, _ *followed) {
				for _, line := range []string{"a", "b", "c"} {
					r.write(line)
					r.turn()
				}
				r.write("d")
			},
			[]string{"a", "b", "c", "d"},
		},
		{
			"again and again", 2,
			func(r rotated, got *followed) {
				for n := 0; n < 6; n += 3 {
					r.write(strconv.Itoa(n))
					r.turn()
					r.write(strconv.Itoa(n + 1))
					r.turn()
					r.write(strconv.Itoa(n + 2))
					var want []string
					for i := range n + 3 {
						want = append(want, strconv.Itoa(i))
					}
					got.until(r.t, want...)
				}
			},
			[]string{"0", "1", "2", "3", "4", "5"},
		},
		{
			"which is cut, with a copy of it beside", 3,
			func(r rotated, got *followed) {
				r.write("a long line")
				got.until(r.t, "a long line")
				if err := os.WriteFile(r.name+".1", []byte("old\na long line\n"), 0o600); err != nil {
					r.t.Fatal(err)
				}
				if err := os.Truncate(r.name, 0); err != nil {
					r.t.Fatal(err)
				}
				r.write("b")
			},
			[]string{"a long line", "b"},
		},
		{
			"over a hole in the numbers", 1,
			func(r rotated, _ *followed) {
				if err := os.Rename(r.name+".1", r.name+".2"); err != nil {
					r.t.Fatal(err)
				}
				r.write("a")
				if err := os.Rename(r.name, r.name+".gone"); err != nil {
					r.t.Fatal(err)
				}
				r.write("b")
			},
			[]string{"a", "b"},
		},
		{
			"which is taken away", 0,
			func(r rotated, got *followed) {
				r.write("a")
				got.until(r.t, "a")
				if err := os.Remove(r.name); err != nil {
					r.t.Fatal(err)
				}
				r.write("b")
			},
			[]string{"a", "b"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := rotated{t, filepath.Join(t.TempDir(), "log"), c.keep}
			r.write("older")
			if c.keep > 0 {
				r.turn()
			}
			r.write("old")
			got := follow(t, r.name, 0)
			c.do(r, got)
			got.until(t, c.want...)
		})
	}
}

func TestAFileThatIsWaitedForIsReadFromItsStart(t *testing.T) {
	t.Parallel()
	r := rotated{t, filepath.Join(t.TempDir(), "log"), 3}
	r.write("old")
	r.turn()
	got := follow(t, r.name, 0)
	r.write("a")
	r.turn()
	r.write("b")
	got.until(t, "a", "b")
}

// However fast files become full, each line is told once and in its place.
func TestNoLineIsMissedWhileFilesBecomeFull(t *testing.T) {
	t.Parallel()
	r := rotated{t, filepath.Join(t.TempDir(), "log"), 200}
	r.write("old")
	got := follow(t, r.name, time.Millisecond)
	want := make([]string, 500)
	for i := range want {
		want[i] = strconv.Itoa(i)
		r.write(want[i])
		if i%5 == 4 && i+1 < len(want) {
			r.turn()
		}
	}
	got.until(t, want...)
}
