package docs

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// standIns are the programs that this one is when it is called by their names.
var standIns = map[string]func(args []string, stdin io.Reader, stdout, stderr io.Writer) int{
	"curl": told("curl", curl),
	"psql": told("psql", psql),
	"make": told("make", dryMake),
}

// told makes a program out of a function: 1 after an error, which is printed.
func told(name string, f func([]string, io.Reader, io.Writer) error) func([]string, io.Reader, io.Writer, io.Writer) int {
	return func(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
		if err := f(args, stdin, stdout); err != nil {
			fmt.Fprintf(stderr, "%s: %v\n", name, err)
			return 1
		}
		return 0
	}
}

// makeTools makes a directory with the stand-ins for PATH.
func makeTools(dir string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	tools := filepath.Join(dir, "tools")
	if err := os.MkdirAll(tools, 0o755); err != nil {
		return "", err
	}
	for name := range standIns {
		if err := os.Symlink(self, filepath.Join(tools, name)); err != nil {
			return "", err
		}
	}
	return tools, nil
}

// curl knows -s -S -f -i -o FILE -X METHOD -H HEADER -d DATA and one URL of http.
// Heads of answers are printed as they came.
func curl(args []string, _ io.Reader, stdout io.Writer) error {
	method, data, target, output := "", "", "", ""
	head, fail, body := false, false, false
	header := http.Header{"Accept": {"*/*"}, "User-Agent": {"curl"}}
	for i := 0; i < len(args); i++ {
		flag := args[i]
		if !strings.HasPrefix(flag, "-") {
			if target != "" {
				return errors.New("more than one URL")
			}
			target = flag
			continue
		}
		for j, letter := range flag[1:] {
			value := func() string {
				if rest := flag[j+2:]; rest != "" || i+1 == len(args) {
					return rest
				}
				i++
				return args[i]
			}
			taken := true
			switch letter {
			case 'X':
				method = value()
			case 'd':
				data, body = value(), true
			case 'o':
				output = value()
			case 'H':
				name, text, found := strings.Cut(value(), ":")
				if !found {
					return fmt.Errorf("no header: %s", name)
				}
				// As it is written: the gate is asked about odd spellings.
				header[name] = append(header[name], strings.TrimSpace(text))
			default:
				taken = false
			}
			if taken {
				break
			}
			switch letter {
			case 's', 'S':
			case 'f':
				fail = true
			case 'i':
				head = true
			default:
				return fmt.Errorf("the stand-in does not know -%c", letter)
			}
		}
	}
	if method == "" {
		method = http.MethodGet
		if body {
			method = http.MethodPost
		}
	}
	if !strings.Contains(target, "://") {
		target = "http://" + target
	}
	u, err := url.Parse(target)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(context.Background(), method, u.String(), strings.NewReader(data))
	if err != nil {
		return err
	}
	r.Header = header
	if body && header.Get("Content-Type") == "" {
		header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	r.Close = true
	conn, err := net.DialTimeout("tcp", u.Host, 5*time.Second)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	if err := r.Write(conn); err != nil {
		return err
	}
	answer := bufio.NewReader(conn)
	var raw bytes.Buffer
	for line := ""; line != "\r\n"; raw.WriteString(line) {
		if line, err = answer.ReadString('\n'); err != nil {
			return err
		}
	}
	text := bytes.Clone(raw.Bytes())
	response, err := http.ReadResponse(bufio.NewReader(io.MultiReader(&raw, answer)), r)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if fail && response.StatusCode >= 400 {
		return fmt.Errorf("the requested URL returned error: %d", response.StatusCode)
	}
	if output != "" {
		f, err := os.Create(output)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		stdout = f
	}
	if head {
		if _, err := stdout.Write(text); err != nil {
			return err
		}
	}
	_, err = io.Copy(stdout, response.Body)
	return err
}

// psql knows a database's URL, -At and -c SQL; without -c it reads its input.
// Rows come as with -At: columns parted by a bar. Changes come as "UPDATE 1".
func psql(args []string, stdin io.Reader, stdout io.Writer) error {
	database, sql := "", ""
	for i := 0; i < len(args); i++ {
		switch arg := args[i]; {
		case arg == "-At" || arg == "-q" || arg == "-X":
		case arg == "-c" && i+1 < len(args):
			i++
			sql = args[i]
		case !strings.HasPrefix(arg, "-") && database == "":
			database = arg
		default:
			return fmt.Errorf("the stand-in does not know %s", arg)
		}
	}
	if sql == "" {
		text, err := io.ReadAll(stdin)
		if err != nil {
			return err
		}
		sql = string(text)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return query(ctx, database, sql, stdout)
}

// query runs statements as psql does, and writes what came of each.
func query(ctx context.Context, database, sql string, stdout io.Writer) error {
	conn, err := pgx.Connect(ctx, database)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	results, err := conn.PgConn().Exec(ctx, sql).ReadAll()
	for _, r := range results {
		if err == nil {
			err = r.Err
		}
		show(r, stdout)
	}
	return err
}

func show(r *pgconn.Result, w io.Writer) {
	if !r.CommandTag.Select() {
		fmt.Fprintln(w, r.CommandTag)
		return
	}
	for _, row := range r.Rows {
		fmt.Fprintln(w, string(bytes.Join(row, []byte("|"))))
	}
}

var verb = regexp.MustCompile(`(?m)^([a-z0-9-]+):`)

// dryMake looks whether the Makefile has the verbs.
func dryMake(args []string, _ io.Reader, _ io.Writer) error {
	text, err := os.ReadFile(os.Getenv("GATEHOUSE_MAKEFILE"))
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for _, m := range verb.FindAllSubmatch(text, -1) {
		known[string(m[1])] = true
	}
	for _, arg := range args {
		if !strings.Contains(arg, "=") && !known[arg] {
			return fmt.Errorf("there is no verb %s", arg)
		}
	}
	return nil
}

func TestTheStandInOfCurlAsksAndShowsWhatCame(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Seen", strings.Join(r.Header["X-Odd"], "+"))
		w.WriteHeader(http.StatusTeapot)
		fmt.Fprintf(w, "%s %s %s", r.Method, r.Header.Get("Content-Type"), text)
	}))
	defer server.Close()
	for _, tc := range []struct {
		name string
		args []string
		want string // a part of it
		fail bool
	}{
		{"a body makes it a POST", []string{"-s", server.URL, "-d", "x=1"}, "POST application/x-www-form-urlencoded x=1", false},
		{"headers of one name are all sent", []string{"-si", "-H", "X-Odd: 1", "-HX-Odd: 2", server.URL}, "X-Seen: 1+2", false},
		{"-i shows the status", []string{"-i", server.URL}, "HTTP/1.1 418 I'm a teapot\r\n", false},
		{"-f makes a refusal a failure", []string{"-fsS", server.URL}, "", true},
		{"what it does not know is refused", []string{"-k", server.URL}, "", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var out strings.Builder
			err := curl(tc.args, nil, &out)
			if !strings.Contains(out.String(), tc.want) || (err != nil) != tc.fail {
				t.Errorf("%q, %v, want %q, failure %v", out.String(), err, tc.want, tc.fail)
			}
		})
	}
}

func TestTheStandInOfMakeKnowsTheVerbs(t *testing.T) {
	t.Setenv("GATEHOUSE_MAKEFILE", makefile())
	if err := dryMake([]string{"test", "PKG=./login/..."}, nil, io.Discard); err != nil {
		t.Error(err)
	}
	if dryMake([]string{"tset"}, nil, io.Discard) == nil {
		t.Error("a verb that does not exist was found")
	}
}
