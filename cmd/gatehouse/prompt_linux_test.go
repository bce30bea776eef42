package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/term"

	"github.com/atenex/gatehouse/internal/postgres/postgrestest"
)

func TestAnInterruptAtThePromptGivesTheTerminalBack(t *testing.T) {
	control, tty := openPTY(t)
	before, err := term.GetState(int(tty.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	cmd, said := startOnTTY(t, tty, "user", "create", "ada@example.com")
	said.waitFor(t, "New password: ")
	waitUntil(t, "the terminal shows nothing of what is typed", func() bool {
		now, err := term.GetState(int(tty.Fd()))
		return err == nil && !reflect.DeepEqual(before, now)
	})

	if _, err := control.Write([]byte("test-secret\x03")); err != nil {
		t.Fatal(err)
	}
	err = cmd.Wait()

	if got := cmd.ProcessState.ExitCode(); got != exitFailed {
		t.Errorf("exit code %d (%v), want %d", got, err, exitFailed)
	}
	if !strings.HasSuffix(said.String(), "gatehouse: interrupted\n") {
		t.Errorf("stderr %q, want it to end in an interruption", said)
	}
	after, err := term.GetState(int(tty.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(before, after) {
		t.Error("the terminal is not as it was before")
	}
}

func TestNothingTypedAtThePromptIsShown(t *testing.T) {
	control, tty := openPTY(t)
	var shown buffer
	go func() { _, _ = shown.readFrom(control) }()
	cmd, said := startOnTTY(t, tty, "user", "create", "ada@example.com")
	const secret = "test-secret-of-a-terminal"
	said.waitFor(t, "New password: ")
	quiet(t, tty)
	fmt.Fprintln(control, secret)
	said.waitFor(t, "Again: ")
	quiet(t, tty)
	fmt.Fprintln(control, secret)
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v: %s", err, said)
	}
	if strings.Contains(shown.String()+said.String(), secret) {
		t.Error("the terminal showed the password")
	}
}

// quiet waits until the terminal no longer echoes.
func quiet(t *testing.T, tty *os.File) {
	t.Helper()
	waitUntil(t, "the echo is off", func() bool {
		var state syscall.Termios
		return ioctl(tty, syscall.TCGETS, unsafe.Pointer(&state)) == nil && state.Lflag&syscall.ECHO == 0
	})
}

// startOnTTY starts the command as a shell would, on a controlling terminal,
// with a migrated database.
func startOnTTY(t *testing.T, tty *os.File, args ...string) (*exec.Cmd, *buffer) {
	t.Helper()
	url := postgrestest.New(t)
	environ := []string{"GATEWAY_DATABASE_URL=" + url, "PATH=" + os.Getenv("PATH"), "GORACE=atexit_sleep_ms=0"}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	var stdout, stderr bytes.Buffer
	if code := run(ctx, []string{"migrate"}, environ, strings.NewReader(""), &stdout, &stderr); code != 0 {
		t.Fatalf("migrate: %s", stderr.String())
	}
	said := &buffer{}
	cmd := exec.CommandContext(ctx, "gatehouse", args...)
	cmd.Env = environ
	cmd.Dir = t.TempDir()
	cmd.Stdin, cmd.Stderr = tty, said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
	return cmd, said
}

// openPTY makes a pseudo-terminal: what is written to control is typed on tty.
func openPTY(t *testing.T) (control, tty *os.File) {
	t.Helper()
	control, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = control.Close() })
	var unlocked, number int32
	if err := ioctl(control, syscall.TIOCSPTLCK, unsafe.Pointer(&unlocked)); err != nil {
		t.Fatal(err)
	}
	if err := ioctl(control, syscall.TIOCGPTN, unsafe.Pointer(&number)); err != nil {
		t.Fatal(err)
	}
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tty.Close() })
	return control, tty
}

func ioctl(f *os.File, request uintptr, arg unsafe.Pointer) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var errno syscall.Errno
	if err := raw.Control(func(fd uintptr) {
		_, _, errno = syscall.Syscall(syscall.SYS_IOCTL, fd, request, uintptr(arg))
	}); err != nil {
		return err
	}
	if errno != 0 {
		return errno
	}
	return nil
}

// buffer is read while somebody writes to it.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func (b *buffer) readFrom(f *os.File) (int64, error) {
	part := make([]byte, 256)
	for {
		n, err := f.Read(part)
		if err != nil {
			return 0, err
		}
		_, _ = b.Write(part[:n])
	}
}

func (b *buffer) waitFor(t *testing.T, text string) {
	t.Helper()
	waitUntil(t, fmt.Sprintf("%q is said", text), func() bool { return strings.Contains(b.String(), text) })
}

func waitUntil(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !done(); {
		if time.Now().After(deadline) {
			t.Fatalf("not until the deadline: %s", what)
		}
		<-time.After(5 * time.Millisecond)
	}
}
