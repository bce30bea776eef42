package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/term"
)

// secretBytes bounds what is read as one secret: a password has at most 1,024
// characters of four bytes, a token fits in any header.
const secretBytes = 64 << 10

// readSecret reads one secret from a file or a pipe. One newline at the end is
// the editor's or echo's, not the secret's.
func readSecret(r io.Reader, what string) (string, error) {
	b, err := io.ReadAll(io.LimitReader(r, secretBytes+1))
	if err != nil {
		return "", fmt.Errorf("reading %s: %w", what, err)
	}
	if len(b) > secretBytes {
		return "", fmt.Errorf("%s is longer than %d bytes", what, secretBytes)
	}
	if line, cut := bytes.CutSuffix(b, []byte("\n")); cut {
		b = bytes.TrimSuffix(line, []byte("\r"))
	}
	return string(b), nil
}

func readSecretFile(path, what string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("reading %s: %w", what, err)
	}
	defer f.Close()
	return readSecret(f, what)
}

// asTerminal returns stdin where a person can be asked.
func asTerminal(stdin io.Reader) (*os.File, bool) {
	f, ok := stdin.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil, false
	}
	return f, true
}

// ask reads one line from the terminal without showing it. An interrupt gives
// the terminal back as it was: without that the operator's shell would stay
// blind.
func ask(ctx context.Context, tty *os.File, stderr io.Writer, prompt string) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	fd := int(tty.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return "", fmt.Errorf("reading the terminal's state: %w", err)
	}
	fmt.Fprint(stderr, prompt)
	type answer struct {
		text []byte
		err  error
	}
	// The reader cannot be woken; it is left behind only when the process ends.
	read := make(chan answer, 1)
	go func() {
		text, err := term.ReadPassword(fd)
		read <- answer{text, err}
	}()
	select {
	case a := <-read:
		fmt.Fprintln(stderr)
		if errors.Is(a.err, io.EOF) {
			return "", errors.New("the terminal was closed before the password was typed")
		}
		if a.err != nil {
			return "", fmt.Errorf("reading the terminal: %w", a.err)
		}
		return string(a.text), nil
	case <-ctx.Done():
		restored := term.Restore(fd, before)
		fmt.Fprintln(stderr)
		if restored != nil {
			return "", fmt.Errorf("giving the terminal back: %w", restored)
		}
		return "", ctx.Err()
	}
}
