package issuers

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Fault is one thing that is wrong with a file. It repeats nothing that could be a
// secret.
type Fault struct {
	File string // the base name
	Line int    // counted from 1; 0: not known
	In   string // the issuer, `issuer "supabase"`; empty: the file as a whole
	Text string
}

// Error is one line: `issuers.yaml:12: issuer "supabase": keys is missing`.
func (f Fault) Error() string {
	var b strings.Builder
	b.WriteString(f.File)
	if f.Line > 0 {
		fmt.Fprintf(&b, ":%d", f.Line)
	}
	b.WriteString(": ")
	if f.In != "" {
		b.WriteString(f.In + ": ")
	}
	b.WriteString(f.Text)
	return b.String()
}

// Faults are all that is wrong with a file, in the order of its lines.
type Faults []Fault

func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i, fault := range f {
		lines[i] = fault.Error()
	}
	return strings.Join(lines, "\n")
}

func (f Faults) err(file string) error {
	if len(f) == 0 {
		return nil
	}
	for i := range f {
		f[i].File = file
	}
	slices.SortStableFunc(f, func(a, b Fault) int { return cmp.Compare(a.Line, b.Line) })
	return slices.Compact(f)
}
