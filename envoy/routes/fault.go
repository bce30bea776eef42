package routes

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Fault is one thing that is wrong with a route table.
type Fault struct {
	File string // empty: not from a file
	Line int    // counted from 1; 0: not known
	In   string // the part of the table, `route "query"`; empty: the table as a whole
	Text string
}

// Error is one line: "routes.yaml:12: route "query": mode is missing".
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

// Faults are all that is wrong with a table, in the order of its lines.
type Faults []Fault

func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i, fault := range f {
		lines[i] = fault.Error()
	}
	return strings.Join(lines, "\n")
}

// err is nil where there is no fault.
func (f Faults) err() error {
	if len(f) == 0 {
		return nil
	}
	slices.SortStableFunc(f, func(a, b Fault) int { return cmp.Compare(a.Line, b.Line) })
	return slices.Compact(f)
}

// in puts the file's name on faults.
func inFile(name string, err error) error {
	faults, ok := errors.AsType[Faults](err)
	if !ok {
		return err
	}
	named := slices.Clone(faults)
	for i := range named {
		named[i].File = name
	}
	return named
}

// lines remember where a part of a table and its keys were written; the zero
// value is of a table that was made in code.
type lines struct {
	self int
	keys map[string]int
}

// of is the line of a key, or of the part where it has no such key.
func (l lines) of(key string) int {
	if line, ok := l.keys[key]; ok {
		return line
	}
	return l.self
}

// judge collects the faults of one part of a table.
type judge struct {
	in     string
	at     lines
	faults Faults
}

// fault is about a key; "" is the part itself.
func (j *judge) fault(key, format string, args ...any) {
	j.faults = append(j.faults, Fault{Line: j.at.of(key), In: j.in, Text: fmt.Sprintf(format, args...)})
}

func (j *judge) check(key string, err error) {
	if err != nil {
		j.fault(key, "%v", err)
	}
}
