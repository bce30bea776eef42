package postgrestest_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/atenex/gatehouse/internal/postgres/postgrestest"
)

// holdEnv makes TestHold, in a process of its own, wait to be killed.
const holdEnv = "POSTGRESTEST_HOLD"

func TestHold(t *testing.T) {
	how := os.Getenv(holdEnv)
	if how == "" {
		t.Skip("only a helper of the test below")
	}
	url := postgrestest.New(t)
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	var data string
	if err := conn.QueryRow(t.Context(), "SHOW data_directory").Scan(&data); err != nil {
		t.Fatal(err)
	}
	fmt.Println("data", data)
	if how == "panic" {
		panic("as a test does that goes wrong")
	}
	select {}
}

func TestTheServerAndItsDataEndWithTheProcessHoweverItEnds(t *testing.T) {
	for _, how := range []string{"kill", "panic"} {
		t.Run(how, func(t *testing.T) {
			cmd := exec.Command(os.Args[0], "-test.run=^TestHold$", "-test.v")
			cmd.Env = append(os.Environ(), holdEnv+"="+how)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			var data string
			for lines := bufio.NewScanner(out); data == "" && lines.Scan(); {
				data, _ = strings.CutPrefix(lines.Text(), "data ")
				if !filepath.IsAbs(data) {
					data = ""
				}
			}
			if how == "kill" {
				_ = cmd.Process.Kill()
			}
			_ = cmd.Wait()
			if data == "" {
				t.Fatal("the helper never had a server")
			}
			// The directory goes last, when the server has let go of it.
			top := filepath.Dir(filepath.Dir(filepath.Dir(data)))
			over := time.After(30 * time.Second)
			again := time.NewTicker(20 * time.Millisecond)
			defer again.Stop()
			for {
				if _, err := os.Lstat(top); os.IsNotExist(err) {
					return
				}
				select {
				case <-over:
					t.Fatalf("%s is still there", top)
				case <-again.C:
				}
			}
		})
	}
}
