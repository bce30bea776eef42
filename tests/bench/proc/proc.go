// Package proc reads what Linux tells of processes and of the machine: the CPU
// time that a contender used, and the shape of what all of it ran on. It must
// never know who the contenders are.
package proc

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of /proc/PID/stat, USER_HZ, which Linux fixes at 1/100 s.
const tick = 10 * time.Millisecond

// CPU is the CPU time of a process so far, in user and kernel mode, of all its
// threads that still live. It counts in nanoseconds: a check costs microseconds.
func CPU(pid int) (time.Duration, error) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil {
		return 0, err
	}
	var sum time.Duration
	read := 0
	for _, name := range tasks {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // the thread has ended since
		}
		ran, _, _ := strings.Cut(string(text), " ")
		ns, err := strconv.ParseInt(ran, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", name, err)
		}
		sum += time.Duration(ns)
		read++
	}
	if read == 0 {
		return fromStat(pid) // a kernel without scheduler statistics
	}
	return sum, nil
}

// Family is the CPU time of a process and of its children, those that have ended
// included, in hundredths of a second: PostgreSQL has a process for each
// connection.
func Family(pid int) (time.Duration, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, err
	}
	sum, err := ended(pid)
	if err != nil {
		return 0, err
	}
	for _, name := range stats {
		f, err := statFields(name)
		if err != nil {
			continue // it has ended since
		}
		if f[ppid] == strconv.Itoa(pid) || filepath.Base(filepath.Dir(name)) == strconv.Itoa(pid) {
			d, err := ticks(f[utime], f[stime])
			if err != nil {
				return 0, fmt.Errorf("%s: %w", name, err)
			}
			sum += d
		}
	}
	return sum, nil
}

func fromStat(pid int) (time.Duration, error) {
	f, err := statFields(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	return ticks(f[utime], f[stime])
}

func ended(pid int) (time.Duration, error) {
	f, err := statFields(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	return ticks(f[cutime], f[cstime])
}

// Places in /proc/PID/stat after the name, which may hold anything.
const (
	ppid   = 1
	utime  = 11
	stime  = 12
	cutime = 13
	cstime = 14
)

func statFields(name string) ([]string, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	return parseStat(string(text))
}

func parseStat(text string) ([]string, error) {
	end := strings.LastIndexByte(text, ')')
	f := strings.Fields(text[end+1:])
	if end < 0 || len(f) <= cstime {
		return nil, errors.New("not the line of a process")
	}
	return f, nil
}

func ticks(fields ...string) (time.Duration, error) {
	var sum time.Duration
	for _, f := range fields {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, err
		}
		sum += time.Duration(n) * tick
	}
	return sum, nil
}

// Machine is the shape of what a benchmark ran on.
type Machine struct {
	CPUs     int    `json:"cpus"`
	Model    string `json:"model"`
	MemoryMB int64  `json:"memory_mb"`
	Kernel   string `json:"kernel"`
	Go       string `json:"go"`
	Arch     string `json:"arch"`
	// Load1 is the load average of the last minute before the start: on a busy
	// machine the figures are noise.
	Load1 string `json:"load_1m_before"`
}

// ReadMachine leaves out what the system does not tell.
func ReadMachine() Machine {
	m := Machine{CPUs: runtime.NumCPU(), Go: runtime.Version(), Arch: runtime.GOOS + "/" + runtime.GOARCH}
	m.Model = field("/proc/cpuinfo", "model name")
	if kb, err := strconv.ParseInt(strings.TrimSuffix(field("/proc/meminfo", "MemTotal"), " kB"), 10, 64); err == nil {
		m.MemoryMB = kb / 1024
	}
	m.Kernel = firstLine("/proc/sys/kernel/osrelease")
	m.Load1, _, _ = strings.Cut(firstLine("/proc/loadavg"), " ")
	return m
}

func field(file, name string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if key, value, found := strings.Cut(line, ":"); found && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func firstLine(file string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return strings.TrimSpace(line)
}
