package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/atenex/gatehouse/internal/devstack"
)

// count is what became of the tests of a group on a version.
type count struct{ passed, failed, skipped int }

func (c count) String() string {
	text := fmt.Sprint(c.passed)
	if c.failed > 0 {
		text += fmt.Sprintf(", **%d failed**", c.failed)
	}
	if c.skipped > 0 {
		text += fmt.Sprintf(", %d skipped", c.skipped)
	}
	return text
}

func (c count) plus(o outcome) count {
	switch o {
	case outcomePassed:
		c.passed++
	case outcomeSkipped:
		c.skipped++
	default:
		c.failed++
	}
	return c
}

// A table has a row for each group and a column for each version.
type table struct {
	versions []string
	counts   map[string]map[string]count // by version and group
}

func newTable(versions []string) *table {
	t := &table{versions: versions, counts: map[string]map[string]count{}}
	for _, v := range versions {
		t.counts[v] = map[string]count{}
	}
	return t
}

func (t *table) add(version string, r result) {
	name := groupOf(r.test)
	t.counts[version][name] = t.counts[version][name].plus(r.outcome)
}

func (t *table) passed() bool {
	for _, groups := range t.counts {
		for _, c := range groups {
			if c.failed > 0 {
				return false
			}
		}
	}
	return true
}

// complete reports whether the table is that of the manual.
func (t *table) complete() bool { return slices.Equal(t.versions, devstack.EnvoyReleases()) }

// markdown is the table, with when and where it was made.
func (t *table) markdown(ran string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "`make e2e-matrix`, %s:\n\n| tests that passed on Envoy | %s |\n|---|%s\n",
		ran, strings.Join(t.versions, " | "), strings.Repeat("---|", len(t.versions)))
	for _, g := range groups() {
		fmt.Fprintf(&b, "| %s |", g.name)
		for _, v := range t.versions {
			fmt.Fprintf(&b, " %s |", t.counts[v][g.name])
		}
		b.WriteString("\n")
	}
	return b.String()
}

// What is between the marks is ours.
const (
	markBegin = "<!-- begin: written by make e2e-matrix -->\n"
	markEnd   = "<!-- end -->\n"
)

// block is what stands between the marks of a page, and what around them.
func block(page string) (before, inner, after string, err error) {
	before, rest, begins := strings.Cut(page, markBegin)
	inner, after, ends := strings.Cut(rest, markEnd)
	if !begins || !ends {
		return "", "", "", fmt.Errorf("the page has no %q and %q", markBegin, markEnd)
	}
	return before, inner, after, nil
}

func writeBlock(file, text string) error {
	page, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, _, after, err := block(string(page))
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return os.WriteFile(file, []byte(before+markBegin+text+markEnd+after), 0o644) //nolint:gosec // a page of the manual
}
