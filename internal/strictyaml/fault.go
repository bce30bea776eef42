package strictyaml

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Fault is one thing that is wrong with a document.
type Fault struct {
	File string // empty: not from a file
	Line int    // counted from 1; 0: not known
	In   string // the part of it, `route "query"`; empty: the whole
	Text string
}

// Error is one line: `routes.yaml:12: route "query": mode is missing`.
func (f Fault) Error() string {
	var b strings.Builder
	switch {
	case f.File != "" && f.Line > 0:
		fmt.Fprintf(&b, "%s:%d: ", f.File, f.Line)
	case f.File != "":
		fmt.Fprintf(&b, "%s: ", f.File)
	case f.Line > 0:
		fmt.Fprintf(&b, "line %d: ", f.Line)
	}
	if f.In != "" {
		b.WriteString(f.In + ": ")
	}
	b.WriteString(f.Text)
	return b.String()
}

// Faults are all that is wrong with a document.
type Faults []Fault

func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i, fault := range f {
		lines[i] = fault.Error()
	}
	return strings.Join(lines, "\n")
}

// Of puts the name of their file on faults.
func (f Faults) Of(file string) Faults {
	named := slices.Clone(f)
	for i := range named {
		named[i].File = file
	}
	return named
}

// Err is the faults in the order of their lines, each once; nil where there is none.
func (f Faults) Err() error {
	if len(f) == 0 {
		return nil
	}
	sorted := slices.SortedStableFunc(slices.Values(f), func(a, b Fault) int { return cmp.Compare(a.Line, b.Line) })
	return Faults(slices.Compact(sorted))
}

// Lines remember where a part of a document and its keys were written; the zero value
// is of what was made in code.
type Lines struct {
	Self int
	Keys map[string]int
}

// Of is the line of a key, or of the part where it has no such key.
func (l Lines) Of(key string) int {
	if line, ok := l.Keys[key]; ok {
		return line
	}
	return l.Self
}

// Has reports that a key is there.
func (l Lines) Has(key string) bool {
	_, ok := l.Keys[key]
	return ok
}
