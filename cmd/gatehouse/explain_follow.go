package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"time"
)

// follower reads a file as it grows, and those that take its name when it is full: what
// is left of the old one first, and then whatever came and was full before we looked.
type follower struct {
	name string
	file *os.File // nil: it is not there yet
	lr   *lineReader
	// past are full files that have been read, or were there before.
	past  []fs.FileInfo
	every time.Duration // between two looks; 0: lookEvery
	doubt time.Time     // when files were first found being renamed; zero: they are not
}

// mostDoubt is how long files can be in the course of being renamed: a hole in their
// numbers that lasts longer is one that stays.
const mostDoubt = 2 * time.Second

// mostPast bounds what is remembered of full files; more are not kept by any setting
// that makes sense.
const mostPast = 1000

// open begins at the end of the file unless fromStart is set. A file that is not
// there yet is waited for.
func (f *follower) open(fromStart bool) error {
	for n := 1; n <= mostPast; n++ {
		info, err := os.Stat(f.full(n))
		if err != nil {
			break
		}
		f.past = append(f.past, info)
	}
	file, err := os.Open(f.name)
	if err != nil {
		return err
	}
	if !fromStart {
		if _, err := file.Seek(0, io.SeekEnd); err != nil {
			_ = file.Close()
			return err
		}
	}
	f.take(file)
	return nil
}

// full is the name of the n-th full file, the latest being the first.
func (f *follower) full(n int) string { return f.name + "." + strconv.Itoa(n) }

func (f *follower) take(file *os.File) { f.file, f.lr = file, newLineReader(file) }

func (f *follower) close() {
	if f.file != nil {
		_ = f.file.Close()
		f.file = nil
	}
}

// run tells lines until ctx ends.
func (f *follower) run(ctx context.Context, tell func([]byte) error) error {
	defer f.close()
	tick := time.NewTicker(cmp.Or(f.every, lookEvery))
	defer tick.Stop()
	for {
		if err := f.drain(tell); err != nil {
			return err
		}
		turned := false
		switch at, err := f.look(); {
		case err != nil:
			return err
		case at == cut:
			turned, err = f.begin()
			if err != nil {
				return err
			}
		case at == elsewhere:
			// Whoever wrote it has turned to the new one by now, so that what is there
			// is all.
			if err := f.drain(tell); err != nil {
				return err
			}
			if turned, err = f.turn(tell); err != nil {
				return err
			}
		}
		if turned {
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (f *follower) drain(tell func([]byte) error) error {
	for f.file != nil {
		line, err := f.lr.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading the decision log: %w", err)
		}
		if err := tell(line); err != nil {
			return err
		}
	}
	return nil
}

// whereabouts are those of the file that is read.
type whereabouts int

const (
	inPlace   whereabouts = iota
	elsewhere             // another file has its name
	cut                   // it is shorter than what was read of it
)

func (f *follower) look() (whereabouts, error) {
	named, err := os.Stat(f.name)
	if errors.Is(err, fs.ErrNotExist) {
		return inPlace, nil // between two files
	}
	if err != nil {
		return 0, fmt.Errorf("looking at the decision log: %w", err)
	}
	if f.file == nil {
		return elsewhere, nil
	}
	ours, err := f.file.Stat()
	if err != nil {
		return 0, fmt.Errorf("looking at the decision log: %w", err)
	}
	at, err := f.file.Seek(0, io.SeekCurrent)
	if err != nil {
		return 0, fmt.Errorf("looking at the decision log: %w", err)
	}
	switch {
	case !os.SameFile(named, ours):
		return elsewhere, nil
	case named.Size() < at:
		return cut, nil
	}
	return inPlace, nil
}

// begin reads the file of the name from its start.
func (f *follower) begin() (bool, error) {
	file, err := os.Open(f.name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("opening the decision log: %w", err)
	}
	f.close()
	f.take(file)
	return true, nil
}

// turn reads the files that were begun and full since we looked, the oldest first, and
// goes on with the one that has the name. It does nothing, and reports so, while files
// are just being renamed.
func (f *follower) turn(tell func([]byte) error) (bool, error) {
	var missed []*os.File // the latest first
	defer func() {
		for _, file := range missed {
			_ = file.Close()
		}
	}()
	var known []fs.FileInfo
	if f.file != nil {
		ours, err := f.file.Stat()
		if err != nil {
			return false, fmt.Errorf("looking at the decision log: %w", err)
		}
		known = append(known, ours)
	}
	var before fs.FileInfo // is behind them, and read; nil: nothing is
	for n := 1; n <= mostPast; n++ {
		file, err := os.Open(f.full(n))
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return false, fmt.Errorf("opening the decision log: %w", err)
		}
		info, err := file.Stat()
		if err != nil {
			_ = file.Close()
			return false, fmt.Errorf("looking at the decision log: %w", err)
		}
		if len(known) > 0 && os.SameFile(info, known[0]) || slices.ContainsFunc(f.past, func(p fs.FileInfo) bool { return unchanged(p, info) }) {
			_ = file.Close()
			before = info
			break
		}
		missed = append(missed, file)
	}
	next, err := os.Open(f.name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("opening the decision log: %w", err)
	}
	if !f.settled(missed, next, before) {
		if f.doubt.IsZero() {
			f.doubt = time.Now()
		}
		if time.Since(f.doubt) < mostDoubt {
			_ = next.Close()
			return false, nil
		}
	}
	f.doubt = time.Time{}
	for _, file := range slices.Backward(missed) {
		f.close()
		f.take(file)
		if err := f.drain(tell); err != nil {
			_ = next.Close()
			return false, err
		}
		if info, err := file.Stat(); err == nil {
			known = append(known, info)
		}
	}
	f.close()
	f.take(next)
	f.past = append(f.past, known...)
	f.past = slices.Clone(f.past[max(0, len(f.past)-mostPast):])
	return true, nil
}

// settled reports that the files still have the names under which they were opened:
// while they are renamed, one can be seen twice and another one not at all, and there is
// a hole in the numbers.
func (f *follower) settled(missed []*os.File, next *os.File, before fs.FileInfo) bool {
	behind, err := os.Stat(f.full(len(missed) + 1))
	_, beyond := os.Stat(f.full(len(missed) + 2))
	if (err == nil) != (before != nil) || err == nil && !os.SameFile(behind, before) || err != nil && beyond == nil {
		return false
	}
	for n, file := range slices.Concat([]*os.File{next}, missed) {
		name := f.name
		if n > 0 {
			name = f.full(n)
		}
		named, err := os.Stat(name)
		opened, wrong := file.Stat()
		if err != nil || wrong != nil || !os.SameFile(named, opened) {
			return false
		}
	}
	return true
}

// unchanged reports that a full file is the one that it was; another one may have got
// its number in the file system meanwhile.
func unchanged(was, is fs.FileInfo) bool {
	return os.SameFile(was, is) && was.Size() == is.Size() && was.ModTime().Equal(is.ModTime())
}
