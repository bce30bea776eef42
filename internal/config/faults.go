package config

import (
	"cmp"
	"slices"
	"strings"
)

// Fault is one thing that is wrong with the settings.
type Fault struct {
	Setting string // the full name, or ".env"
	Problem string // one line, without the value of a secret
}

// Faults is every fault of one Load, in the order of the manual. It is never
// empty when it is an error.
type Faults []Fault

// Error has one line for each fault.
func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i, fault := range f {
		lines[i] = fault.Setting + ": " + fault.Problem
	}
	return strings.Join(lines, "\n")
}

// report gathers what one Load finds.
type report struct {
	faults   Faults
	warnings []string
	// bad holds the settings (by name without prefix) whose value could not be
	// used, so that a rule about two settings stays silent when one of them is
	// already reported.
	bad map[string]bool
}

func (r *report) fault(name, problem string) {
	r.bad[name] = true
	r.faults = append(r.faults, Fault{fullName(name), problem})
}

func (r *report) warn(name, text string) {
	r.warnings = append(r.warnings, fullName(name)+": "+text)
}

// sort puts faults in table order: the rules about several settings run last,
// and a person reads the list beside the manual.
func (r *report) sort(rows []row) {
	place := make(map[string]int, len(rows))
	for i, row := range rows {
		place[row.full()] = i + 1
		place[row.full()+fileSuffix] = i + 1
	}
	slices.SortStableFunc(r.faults, func(a, b Fault) int {
		return cmp.Compare(place[a.Setting], place[b.Setting])
	})
}
