package issuers

import "github.com/atenex/gatehouse/internal/strictyaml"

type (
	// Fault is one thing that is wrong with a file, which it has by its base name. It
	// repeats nothing that could be a secret.
	Fault = strictyaml.Fault
	// Faults are all that is wrong with a file, in the order of its lines.
	Faults = strictyaml.Faults
)
