package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Source is where settings come from.
type Source struct {
	// Environ is in the form of os.Environ. Of several entries for one name the
	// last counts, as in os/exec, so that an amended environment is an appended
	// one.
	Environ []string
	// Dir is the directory whose .env is read and against which relative names
	// in _FILE settings are resolved. Empty: no .env, and the working directory.
	Dir string
}

// Load reads every setting, applies the rules that join them and returns the
// result, or all faults together as a Faults. Warnings are one line each, name
// settings only by name and never hold a secret; they are returned with faults
// too.
//
// A setting that the environment has in either form, X or X_FILE, even empty,
// is not looked up in .env. An empty value is the same as none, except that an
// empty JWT_SECRET is refused. White space around a value is dropped unless the
// value is a secret.
//
// What the inspections find comes with the other faults.
func Load(src Source, need Need, inspections ...Inspection) (*Settings, []string, error) {
	rows := table()
	r := &report{bad: make(map[string]bool)}
	env := environMap(src.Environ)
	dotenv := readDotEnv(src.Dir, r)

	s := &Settings{given: make(map[string]bool, len(rows))}
	texts := make(map[string]string, len(rows))
	for _, row := range rows {
		in := find(row, env, dotenv)
		text := resolve(row, in, src.Dir, need, r)
		s.given[row.name] = text != "" || in.file != ""
		if row.later {
			refuseLater(row, text, in, r)
			texts[row.name] = text
			continue
		}
		if text == "" {
			text = row.fallback
		}
		texts[row.name] = text
		if text == "" || r.bad[row.name] {
			continue
		}
		if err := row.read(s, row.located(src.Dir, text)); err != nil {
			r.fault(row.name, err.Error())
		}
		if row.path != nil && in.file != "" {
			row.path(s, absolute(filePath(src.Dir, in.file)))
		}
	}
	warnUnknown(rows, env, dotenv, r)
	if r.bad[dotEnvName] {
		need = 0 // what seems to be missing may be there
	}
	apply(s, texts, need, r)
	for _, row := range rows {
		if need&row.required != 0 && !s.given[row.name] && !r.bad[row.name] {
			r.fault(row.name, "is not set")
		}
	}
	for _, c := range inspections {
		c.run(s, need, r)
	}
	if len(r.faults) > 0 {
		r.sort(rows)
		return nil, r.warnings, r.faults
	}
	s.shown = show(rows, s, texts)
	s.environ = childEnviron(rows, src, dotenv)
	return s, r.warnings, nil
}

// input is what was given for one setting, before any file is read.
type input struct {
	text  string
	file  string
	blank bool // the value is there and empty
}

func find(row row, env, dotenv map[string]string) input {
	from := env
	_, plain := env[row.full()]
	_, file := env[row.full()+fileSuffix]
	if !plain && !(row.hasFile() && file) {
		from = dotenv
	}
	text, there := from[row.full()]
	in := input{text: text, blank: there && text == ""}
	if !row.secret {
		in.text = strings.TrimSpace(text)
	}
	if row.hasFile() {
		in.file = strings.TrimSpace(from[row.full()+fileSuffix])
	}
	return in
}

// resolve is the text of a setting, out of its file if that is how it is given.
func resolve(row row, in input, dir string, need Need, r *report) string {
	switch {
	case in.file == "":
		if in.blank && row.blankRefused {
			r.fault(row.name, "is empty")
		}
		return in.text
	case in.text != "":
		r.fault(row.name, "is set together with "+row.full()+fileSuffix+"; only one of them can count")
		return ""
	case row.later || !row.usedBy(need):
		return ""
	}
	text, problem := readSecretFile(filePath(dir, in.file))
	if problem != "" {
		r.bad[row.name] = true
		r.fault(row.name+fileSuffix, problem)
		return ""
	}
	if !row.secret {
		text = strings.TrimSpace(text)
	}
	return text
}

func refuseLater(row row, text string, in input, r *report) {
	if text == "" && in.file == "" {
		return
	}
	for _, accepted := range row.accepts {
		if strings.EqualFold(text, accepted) {
			return
		}
	}
	problem := "is not available in this version"
	if len(row.accepts) > 0 {
		problem += "; leave it unset or `" + strings.Join(row.accepts, "` or `") + "`"
	}
	r.fault(row.name, problem)
}

func environMap(environ []string) map[string]string {
	m := make(map[string]string)
	for _, entry := range environ {
		if name, value, ok := strings.Cut(entry, "="); ok && name != "" {
			m[name] = value
		}
	}
	return m
}

func filePath(dir, name string) string {
	if dir == "" || filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(dir, name)
}

// childEnviron makes Settings.Environ. It takes the settings of .env along, so
// that a child reads the same ones wherever it runs.
func childEnviron(rows []row, src Source, dotenv map[string]string) func(map[string]string) []string {
	return func(amend map[string]string) []string {
		env := environMap(src.Environ)
		for _, row := range rows {
			in := find(row, env, dotenv)
			_, amended := amend[row.full()]
			switch {
			case amended:
				delete(env, row.full()+fileSuffix)
			case in.file != "":
				delete(env, row.full())
				env[row.full()+fileSuffix] = absolute(filePath(src.Dir, in.file))
			case in.text != "":
				env[row.full()] = row.located(src.Dir, in.text)
			}
		}
		for name, value := range amend {
			env[name] = value
		}
		out := make([]string, 0, len(env))
		for name, value := range env {
			out = append(out, name+"="+value)
		}
		slices.Sort(out)
		return out
	}
}

// located is a text with the name of a file in it made absolute.
func (r row) located(dir, text string) string {
	if r.names == nil || !r.names(text) {
		return text
	}
	return absolute(filePath(dir, text))
}

// absolute keeps a name that cannot be made absolute: reading it will say why.
func absolute(name string) string {
	if abs, err := filepath.Abs(name); err == nil {
		return abs
	}
	return name
}

const (
	maxSecretFile = 64 << 10
	maxDotEnv     = 1 << 20
)

// readSecretFile is the content of a file without the one line break, LF or
// CRLF, that editors and echo put at its end.
func readSecretFile(name string) (text, problem string) {
	content, problem := readRegular(name, maxSecretFile)
	if problem != "" {
		return "", problem
	}
	text = strings.TrimSuffix(string(content), "\n")
	if len(text) < len(content) {
		text = strings.TrimSuffix(text, "\r")
	}
	if text == "" {
		return "", "names a file that is empty"
	}
	return text, ""
}

// readRegular refuses everything that could hang (a pipe, a terminal) or never
// end, and says what is wrong without the file's name: someone may have put the
// secret itself into X_FILE.
func readRegular(name string, limit int64) (content []byte, problem string) {
	info, err := os.Stat(name)
	switch {
	case err != nil:
		return nil, "names a file that cannot be read: " + cause(err)
	case !info.Mode().IsRegular():
		return nil, "names something that is not a regular file"
	case info.Size() > limit:
		return nil, "names a file of more than " + size(limit)
	}
	content, err = os.ReadFile(name)
	switch {
	case err != nil:
		return nil, "names a file that cannot be read: " + cause(err)
	case int64(len(content)) > limit:
		return nil, "names a file of more than " + size(limit)
	}
	return content, ""
}
