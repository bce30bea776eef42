package config

import (
	"slices"
	"strings"
)

// Overlay is src with the settings of one more file on top, which is written like
// .env and wins over both the environment and .env. A name that the file leaves
// empty is unset. Names of files in it are relative to src.Dir, like all others.
// What is wrong with the file comes as Faults that begin with its name.
func Overlay(src Source, file string) (Source, error) {
	r := &report{bad: map[string]bool{}}
	values := readDotEnvFile(file, r)
	if len(r.faults) > 0 {
		for i := range r.faults {
			r.faults[i].Setting = file
		}
		return Source{}, r.faults
	}
	out := Source{Environ: slices.Clone(src.Environ), Dir: src.Dir}
	for _, row := range table() {
		plain, given := values[row.full()]
		named, fromFile := values[row.full()+fileSuffix]
		if !given && !(row.hasFile() && fromFile) {
			continue
		}
		// Both forms, so that the one that was in force goes.
		out.Environ = append(out.Environ, row.full()+"="+plain)
		if row.hasFile() {
			out.Environ = append(out.Environ, row.full()+fileSuffix+"="+named)
		}
		delete(values, row.full())
		delete(values, row.full()+fileSuffix)
	}
	for name, value := range values {
		if strings.HasPrefix(name, prefix) { // to be warned about
			out.Environ = append(out.Environ, name+"="+value)
		}
	}
	return out, nil
}
