package routes

import (
	"fmt"

	"github.com/atenex/gatehouse/internal/strictyaml"
)

type (
	// Fault is one thing that is wrong with a route table, with its file and line.
	Fault = strictyaml.Fault
	// Faults are all that is wrong with a table, in the order of its lines.
	Faults = strictyaml.Faults
)

// judge collects the faults of one part of a table.
type judge struct {
	in     string
	at     strictyaml.Lines
	faults Faults
}

// fault is about a key; "" is the part itself.
func (j *judge) fault(key, format string, args ...any) {
	j.faults = append(j.faults, Fault{Line: j.at.Of(key), In: j.in, Text: fmt.Sprintf(format, args...)})
}

func (j *judge) check(key string, err error) {
	if err != nil {
		j.fault(key, "%v", err)
	}
}
