package docs

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// commandLimit is how long one command of a page may take.
const commandLimit = 30 * time.Second

// shell is a bash that keeps its variables from one command to the next.
type shell struct {
	t     *testing.T
	dir   string
	in    io.Writer
	lines chan string
	count int
}

// newShell starts one in dir, with these variables.
func newShell(t *testing.T, dir string, environ []string) *shell {
	t.Helper()
	cmd := exec.Command("bash", "--noprofile", "--norc")
	cmd.Dir, cmd.Env = dir, environ
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = write, write
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = write.Close()
	s := &shell{t: t, dir: dir, in: in, lines: make(chan string, 1)}
	done := make(chan struct{})
	go func() {
		defer close(s.lines)
		for r := bufio.NewReader(out); ; {
			line, err := r.ReadString('\n')
			select {
			case s.lines <- line:
			case <-done:
				return
			}
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		close(done)
		_ = in.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = out.Close()
	})
	return s
}

// run executes one command, with nothing on its standard input, and returns what
// it printed and its exit code.
func (s *shell) run(command string) (output string, code int) {
	s.t.Helper()
	s.count++
	file := filepath.Join(s.dir, ".command")
	if err := os.WriteFile(file, []byte(command+"\n"), 0o600); err != nil {
		s.t.Fatal(err)
	}
	end := fmt.Sprintf("--- end of command %d: ", s.count)
	if _, err := fmt.Fprintf(s.in, ". ./.command </dev/null; printf '%%s%%d\\n' %q $?\n", end); err != nil {
		s.t.Fatalf("the shell has ended: %v", err)
	}
	limit := time.After(commandLimit)
	for {
		select {
		case line, more := <-s.lines:
			// What was printed last need not end with a line break.
			if text, rest, found := strings.Cut(line, end); found {
				code, err := strconv.Atoi(strings.TrimSpace(rest))
				if err != nil {
					s.t.Fatal(err)
				}
				return output + text, code
			}
			output += line
			if !more {
				s.t.Fatalf("%s\nended the shell: %s", command, output)
			}
		case <-limit:
			s.t.Fatalf("%s\nhas not ended within %v: %s", command, commandLimit, output)
		}
	}
}

// step is a command and what a page shows of its output.
type step struct {
	command string
	shown   string
}

// looks is of commands that change nothing, so that they can be repeated.
func (s step) looks() bool {
	return looking.MatchString(s.command) && !changing.MatchString(s.command)
}

var (
	looking  = regexp.MustCompile(`^(curl|grep|tail) `)
	changing = regexp.MustCompile(` -[dX]`)
)

// steps takes a block apart: each command of sh, or those behind "$ " of console.
func steps(kind, text string) []step {
	var all []step
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	for i := 0; i < len(lines); i++ {
		line := lines[i]
		prompt := strings.HasPrefix(line, "$ ")
		switch {
		case kind == "console" && !prompt:
			if len(all) == 0 {
				all = append(all, step{}) // output of nothing: it will not match
			}
			all[len(all)-1].shown += line + "\n"
			continue
		case kind == "console":
			line = line[len("$ "):]
		case strings.TrimSpace(line) == "" || strings.HasPrefix(strings.TrimSpace(line), "#"):
			continue
		}
		command := line
		for ; strings.HasSuffix(command, "\\") && i+1 < len(lines); i++ {
			command += "\n" + lines[i+1]
		}
		if _, rest, here := strings.Cut(line, "<<"); here {
			word := strings.Trim(strings.Fields(rest + " ")[0], `'"-`)
			for ended := false; !ended && i+1 < len(lines); i++ {
				command += "\n" + lines[i+1]
				ended = lines[i+1] == word
			}
		}
		all = append(all, step{command: command})
	}
	return all
}

func TestSteps(t *testing.T) {
	t.Parallel()
	got := steps("sh", "# a remark\na \\\n  b\n\ncat <<'END' > f\nx\n# y\nEND\nc\n")
	want := []string{"a \\\n  b", "cat <<'END' > f\nx\n# y\nEND", "c"}
	if len(got) != len(want) {
		t.Fatalf("got %q", got)
	}
	for i := range want {
		if got[i].command != want[i] {
			t.Errorf("got %q, want %q", got[i].command, want[i])
		}
	}
	shown := steps("console", "$ a\nx\ny\n$ b\n")
	if len(shown) != 2 || shown[0] != (step{"a", "x\ny\n"}) || shown[1] != (step{"b", ""}) {
		t.Errorf("got %q", shown)
	}
}

func TestAShellKeepsItsVariablesAndTellsTheExitCode(t *testing.T) {
	t.Parallel()
	s := newShell(t, t.TempDir(), []string{"PATH=" + os.Getenv("PATH")})
	for _, tc := range []struct {
		command, output string
		code            int
	}{
		{"X=5", "", 0},
		{"echo $X; cat", "5\n", 0},
		{"printf x; false", "x", 1},
		{"echo e >&2", "e\n", 0},
	} {
		if output, code := s.run(tc.command); output != tc.output || code != tc.code {
			t.Errorf("%s: %q %d, want %q %d", tc.command, output, code, tc.output, tc.code)
		}
	}
}
