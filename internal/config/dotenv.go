package config

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"unicode/utf8"

	"github.com/joho/godotenv"
)

const dotEnvName = ".env"

// readDotEnv reads dir/.env. A file that is not there holds nothing; one that
// cannot be read in full, or would be read otherwise than it is written, is a
// fault: half a configuration is worse than none. The parser's own errors quote
// the file, and with it secrets, so they are replaced by a line number.
func readDotEnv(dir string, r *report) map[string]string {
	if dir == "" {
		return nil
	}
	name := filepath.Join(dir, dotEnvName)
	if _, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return readDotEnvFile(name, r)
}

// readDotEnvFile reads a file that is written like .env, and calls it that.
func readDotEnvFile(name string, r *report) map[string]string {
	content, problem := readRegular(name, maxDotEnv)
	if problem != "" {
		r.fault(dotEnvName, strings.Replace(problem, "names", "is", 1))
		return nil
	}
	content = bytes.TrimPrefix(content, []byte("\xef\xbb\xbf")) // editors on Windows
	if !utf8.Valid(content) || bytes.IndexByte(content, 0) >= 0 {
		r.fault(dotEnvName, "is not UTF-8 text")
		return nil
	}
	values, ok := parseDotEnv(content)
	if !ok {
		problem := "cannot be parsed"
		if line := faultyLine(content); line > 0 {
			problem += " from line " + strconv.Itoa(line) + " on"
		}
		r.fault(dotEnvName, problem+"; write NAME=value, and close every quote")
		return nil
	}
	refuseLostDollars(content, values, r)
	return values
}

// parseDotEnv also refuses what godotenv takes silently: a line without "=",
// and a name with a space in it ("set X=1", "setenv X=1").
func parseDotEnv(content []byte) (map[string]string, bool) {
	values, err := godotenv.UnmarshalBytes(content)
	if err != nil {
		return nil, false
	}
	for name := range values {
		if name == "" || strings.ContainsAny(name, " \t\v\f\r") {
			return nil, false
		}
	}
	return values, true
}

// faultyLine is the line after the longest run of lines from the start that
// parses; 0 in a file too long to be worth the trials.
func faultyLine(content []byte) int {
	lines := bytes.SplitAfter(content, []byte("\n"))
	if len(lines) > 500 || len(content) > 64<<10 {
		return 0
	}
	good, end := 0, 0
	for i, line := range lines {
		end += len(line)
		if _, ok := parseDotEnv(content[:end]); ok {
			good = i + 1
		}
	}
	return good + 1
}

// dollarReference finds what godotenv takes for $NAME, ${NAME} or $(NAME), with
// a private-use character in the place of the dollar.
var dollarReference = regexp.MustCompile(`(\\)?` + dollarStandIn + `\(?\{?([A-Z0-9_]+)`)

const dollarStandIn = "\uE000"

// refuseLostDollars finds values from which godotenv removed a $NAME that the
// file does not define. A password with a dollar would be cut in silence, and
// the log would speak of a wrong password for a long night.
func refuseLostDollars(content []byte, values map[string]string, r *report) {
	if !bytes.ContainsRune(content, '$') || strings.Contains(string(content), dollarStandIn) {
		return
	}
	kept, ok := parseDotEnv(bytes.ReplaceAll(content, []byte("$"), []byte(dollarStandIn)))
	if !ok {
		return
	}
	for _, row := range table() {
		for _, name := range []string{row.full(), row.full() + fileSuffix} {
			written := kept[name]
			if strings.ReplaceAll(written, dollarStandIn, "$") == values[name] {
				continue
			}
			for _, m := range dollarReference.FindAllStringSubmatch(written, -1) {
				if _, defined := values[m[2]]; m[1] == "" && !defined {
					r.fault(dotEnvName, "the value of "+name+" refers with $ to a name that the file does not set; to keep the $, put the value in single quotes")
					break
				}
			}
		}
	}
}

// cause is the last word of a file error, without the file's name.
func cause(err error) string {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno.Error()
	}
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err.Error()
	}
	return "input/output error"
}

func size(limit int64) string { return strconv.FormatInt(limit>>10, 10) + " KiB" }
