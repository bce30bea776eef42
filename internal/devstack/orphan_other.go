//go:build !linux

package devstack

import (
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// dieWithParent does nothing here: there is no such signal. What a killed
// runner leaves is found and stopped by the next one (see Postgres).
func dieWithParent(*syscall.SysProcAttr, syscall.Signal) {}

// runsWith reports whether a process runs, and whether arg is among its
// arguments.
func runsWith(pid int, arg string) (runs, with bool) {
	out, err := exec.Command("ps", "-o", "command=", "-p", strconv.Itoa(pid)).Output()
	if err != nil {
		return false, false
	}
	return true, strings.Contains(string(out), arg)
}
