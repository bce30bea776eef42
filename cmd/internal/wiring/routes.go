package wiring

import (
	"errors"

	"github.com/atenex/gatehouse/envoy/routes"
	"github.com/atenex/gatehouse/internal/config"
)

// RouteTable reads the table that the settings name. What is wrong with it comes
// as config.Faults, so that each line begins with the setting, and goes on with
// the file and its line.
func RouteTable(name string) (routes.Table, error) {
	table, err := routes.Load(name)
	if err == nil {
		return table, nil
	}
	const setting = "GATEWAY_ROUTES"
	found, ok := errors.AsType[routes.Faults](err)
	if !ok {
		return routes.Table{}, config.Faults{{Setting: setting, Problem: err.Error()}}
	}
	faults := make(config.Faults, len(found))
	for i, f := range found {
		faults[i] = config.Fault{Setting: setting, Problem: f.Error()}
	}
	return routes.Table{}, faults
}
