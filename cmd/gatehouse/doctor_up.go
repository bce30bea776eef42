package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/atenex/gatehouse/internal/config"
)

// besideUp is what an `up` on this machine says of itself, in the file that it leaves
// for a shell beside it.
type besideUp struct {
	file string
	// settings are those of what runs; nil: nothing does.
	settings *config.Settings
	err      error // the file cannot be read
}

// runningUp looks into the state directory. A file alone says little: what wrote it may
// have been killed.
func (in *invocation) runningUp(ctx context.Context, stateDir string) besideUp {
	if stateDir == "" {
		dir, err := defaultStateDir(in.environ)
		if err != nil {
			return besideUp{err: err}
		}
		stateDir = dir
	}
	file, err := filepath.Abs(filepath.Join(stateDir, upSettings))
	if err != nil {
		return besideUp{err: err}
	}
	b := besideUp{file: file}
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		return b
	}
	src, err := config.Overlay(config.Source{}, file)
	if err != nil {
		b.err = err
		return b
	}
	s, _, err := config.Load(src, config.NeedUp)
	if err != nil {
		b.err = err
		return b
	}
	for _, p := range parts(s) {
		if !s.IsSet(p.setting) {
			continue
		}
		asked, cancel := context.WithTimeout(ctx, checkTimeout)
		err := p.ask(asked, p.address)
		cancel()
		if err == nil {
			b.settings = s
			break
		}
	}
	return b
}

// address is where it has a part, by the setting for that.
func (b besideUp) address(setting string) (config.Address, bool) {
	if b.settings == nil || !b.settings.IsSet(setting) {
		return config.Address{}, false
	}
	for _, p := range parts(b.settings) {
		if p.setting == setting {
			return p.address, true
		}
	}
	return config.Address{}, false
}

// up tells whether one runs, and whether these settings are its: all else that is told
// is about these.
func (r *findings) up(s *config.Settings, b besideUp) {
	const area = "gatehouse up"
	switch {
	case b.err != nil:
		r.add(area, markWarn, "whether one runs is not known: %v", b.err)
	case b.settings == nil:
		r.add(area, markOK, "none runs, as far as %s tells", b.file)
	case s != nil && hasDatabase(s) && s.Database.URL.Reveal() == b.settings.Database.URL.Reveal():
		r.add(area, markOK, "runs, and these are its settings")
	default:
		r.add(area, markWarn, "runs, with other settings than these; take them up with: set -a; . %s; set +a", shellQuoted(b.file))
	}
}
