package config

import "slices"

// Inspection judges settings by what they are for, which this package does not know:
// whether keys are keys, and a file of routes is one. It is how such a fault is
// reported together with all the others, before anything is started.
type Inspection struct {
	// Need says whose start it is for.
	Need Need
	// Of names the settings that it looks at, without prefix. While one of them is
	// faulty by itself, it does not run.
	Of []string
	// Find must not start anything. Need is what the caller of Load is about to do.
	Find func(s *Settings, need Need) Faults
}

func (c Inspection) run(s *Settings, need Need, r *report) {
	if need&c.Need == 0 || slices.ContainsFunc(c.Of, func(name string) bool { return r.bad[name] }) {
		return
	}
	r.faults = append(r.faults, c.Find(s, need)...)
}
