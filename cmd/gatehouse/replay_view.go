package main

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// replayView is what `replay` prints.
type replayView struct {
	Total       int           `json:"total"`
	Same        int           `json:"same"`
	Changed     int           `json:"changed"`
	Undecidable int           `json:"undecidable"`
	Damaged     int           `json:"damaged_lines"`
	First       *time.Time    `json:"first"`
	Last        *time.Time    `json:"last"`
	Changes     []kindView    `json:"changes"`
	Whys        []whyView     `json:"undecidable_because"`
	Decisions   []changedView `json:"decisions"` // the first of the changed ones
	Notes       []string      `json:"notes"`
}

// changeKind is what changes are counted by.
type changeKind struct {
	from, to endingView
	route    string
}

type kindView struct {
	Count int        `json:"count"`
	Route string     `json:"route"`
	From  endingView `json:"from"`
	To    endingView `json:"to"`
}

type whyView struct {
	Count int    `json:"count"`
	Why   string `json:"why"`
}

type changedView struct {
	Line      int        `json:"line"`
	Time      time.Time  `json:"time"`
	RequestID *string    `json:"request_id"`
	Route     *string    `json:"route"`
	Method    string     `json:"method"`
	Path      string     `json:"path"`
	UserID    *string    `json:"user_id"`
	From      endingView `json:"from"`
	To        endingView `json:"to"`
}

func (v *replayView) span(at time.Time) {
	at = at.UTC()
	if v.First == nil || at.Before(*v.First) {
		v.First = &at
	}
	if v.Last == nil || at.After(*v.Last) {
		v.Last = &at
	}
}

// finished is the view with what was counted, the most frequent first.
func (r *rehearsal) finished() *replayView {
	v := &r.view
	v.Total = v.Same + v.Changed + v.Undecidable
	v.Changes, v.Whys = []kindView{}, []whyView{}
	for kind, n := range r.kinds {
		v.Changes = append(v.Changes, kindView{n, kind.route, kind.from, kind.to})
	}
	slices.SortFunc(v.Changes, func(a, b kindView) int {
		return cmp.Or(b.Count-a.Count, cmp.Compare(a.Route, b.Route), cmp.Compare(ending(a.From)+ending(a.To), ending(b.From)+ending(b.To)))
	})
	for why, n := range r.whys {
		v.Whys = append(v.Whys, whyView{n, why})
	}
	slices.SortFunc(v.Whys, func(a, b whyView) int { return cmp.Or(b.Count-a.Count, cmp.Compare(a.Why, b.Why)) })
	if v.Undecidable > 0 && v.Undecidable == v.Total {
		v.Notes = append(v.Notes, "nothing could be judged; that nothing changed says nothing")
	}
	if v.Decisions == nil {
		v.Decisions = []changedView{}
	}
	return v
}

func (v *replayView) text() []byte {
	s := &sheet{}
	fmt.Fprintf(s, "%d decisions", v.Total)
	if v.First != nil {
		fmt.Fprintf(s, ", %s to %s", stamp(*v.First), stamp(*v.Last))
	}
	fmt.Fprintf(s, "\n  %-13s%d\n  %-13s%d\n  %-13s%d\n", "same", v.Same, "changed", v.Changed, "undecidable", v.Undecidable)
	if v.Damaged > 0 {
		fmt.Fprintf(s, "  %-13s%d lines, passed over\n", "damaged", v.Damaged)
	}
	if len(v.Changes) > 0 {
		s.section("changes")
		for _, k := range v.Changes {
			s.entry(fmt.Sprintf("  %7d  ", k.Count), 11, fmt.Sprintf("%s: %s -> %s", orDash(k.Route), ending(k.From), ending(k.To)))
		}
	}
	if len(v.Whys) > 0 {
		s.section("undecidable, because")
		for _, w := range v.Whys {
			s.entry(fmt.Sprintf("  %7d  ", w.Count), 11, w.Why)
		}
	}
	if len(v.Decisions) > 0 {
		s.section("changed decisions")
		for _, d := range v.Decisions {
			s.entry("", 2, fmt.Sprintf("%s %s %s", stamp(d.Time), orDash(d.Method), orDash(d.Path)))
			s.entry("", 4, ending(d.From)+" -> "+ending(d.To))
			s.entry("", 4, fmt.Sprintf("user %s, request %s, line %d", value(d.UserID), value(d.RequestID), d.Line))
		}
		if more := v.Changed - len(v.Decisions); more > 0 {
			fmt.Fprintf(s, "  and %d more: see --limit\n", more)
		}
	}
	for _, note := range v.Notes {
		fmt.Fprintln(s)
		s.entry("note: ", 6, note)
	}
	return []byte(s.String())
}

func value(text *string) string {
	if text == nil {
		return "-"
	}
	return *text
}
