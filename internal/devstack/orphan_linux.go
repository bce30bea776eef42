package devstack

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// dieWithParent has the kernel signal the child when the thread that started
// it ends. Go asks for it after the change of user, which would clear it.
func dieWithParent(attr *syscall.SysProcAttr, s syscall.Signal) { attr.Pdeathsig = s }

// runsWith reports whether a process runs, and whether arg is among its
// arguments.
func runsWith(pid int, arg string) (runs, with bool) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	if err != nil || len(b) == 0 {
		return false, false // a zombie has none either
	}
	return true, slices.Contains(strings.Split(string(b), "\x00"), arg)
}
