// Package lint holds any Envoy configuration against the rules without which the
// gate can be got around, whoever wrote it: each finding says where, why, and how
// to mend it.
//
// It reads configurations as Envoy's own messages and must never know how
// Gatehouse renders one: our rendering is judged like a stranger's.
package lint

import (
	"cmp"
	"slices"
)

// Severity of a finding.
type Severity string

const (
	// Error is a way around the gate, or one that it fails in.
	Error Severity = "error"
	// Warning is a weakness that needs something else to go wrong too.
	Warning Severity = "warning"
	// Info is what could not be looked at.
	Info Severity = "info"
)

// Finding is one thing that is wrong, in one place.
type Finding struct {
	ID       string   `json:"id"`
	Severity Severity `json:"severity"`
	Line     int      `json:"line"`  // of the file; 0: not known
	Where    string   `json:"where"` // the path in the configuration
	Found    string   `json:"found"`
	Why      string   `json:"why"`
	Mend     string   `json:"mend"`
}

// Open is a route that anybody may use, because ext_authz is not asked or because it
// is told so (auth_mode "none"). That is no fault by itself;
// it is listed because somebody has to have meant it.
type Open struct {
	Line  int    `json:"line"`
	Where string `json:"where"`
	Route string `json:"route"`
	Match string `json:"match"`
}

// Report is all that was found, the worst first.
type Report struct {
	Findings []Finding `json:"findings"`
	Open     []Open    `json:"open"`
}

// Failed reports whether there is a finding of severity error.
func (r Report) Failed() bool {
	return slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Severity == Error })
}

func (r *Report) sort() {
	worst := map[Severity]int{Error: 0, Warning: 1, Info: 2}
	slices.SortStableFunc(r.Open, func(a, b Open) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Where, b.Where))
	})
	slices.SortStableFunc(r.Findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(worst[a.Severity], worst[b.Severity]), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Where, b.Where), cmp.Compare(a.ID, b.ID))
	})
}

// Rules are the ids of all rules with their severity, why and mend.
func Rules() []Rule { return slices.Clone(rules) }

// Rule is what a finding of this id says.
type Rule struct {
	ID       string
	Severity Severity
	Why      string
	Mend     string
}
