package proc

import (
	"os"
	"os/exec"
	"testing"
	"time"
)

func TestCPUGrowsWithWork(t *testing.T) {
	before, err := CPU(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	const enough = 20 * time.Millisecond
	deadline := time.Now().Add(20 * time.Second)
	for n := 0; ; n++ {
		now, err := CPU(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		if now-before >= enough {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%v of CPU time after %d readings, want %v", now-before, n, enough)
		}
	}
}

func TestFamilyCountsChildrenThatHaveEnded(t *testing.T) {
	before, err := Family(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	// A child that works for a while, and is gone when we look.
	if err := exec.Command("sh", "-c", "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done").Run(); err != nil {
		t.Fatal(err)
	}
	after, err := Family(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if after-before < 2*tick {
		t.Errorf("%v more CPU time after a child's loop, want at least %v", after-before, 2*tick)
	}
}

func TestCPUOfNobodyIsAnError(t *testing.T) {
	const nobody = 1 << 30 // beyond the kernel's highest process id
	if d, err := CPU(nobody); err == nil {
		t.Errorf("CPU = %v, want an error", d)
	}
	if d, err := Family(nobody); err == nil {
		t.Errorf("Family = %v, want an error", d)
	}
}

func TestParseStat(t *testing.T) {
	tests := []struct {
		name string
		line string
		want string // the parent; "": refused
	}{
		{"a plain name", "7 (authz) S 42 7 7 0 -1 0 0 0 0 0 11 12 13 14 20", "42"},
		{"a name with spaces and brackets", "7 (a) S 1 (b) S 42 7 7 0 -1 0 0 0 0 0 11 12 13 14 20", "42"},
		{"cut off", "7 (authz) S 42", ""},
		{"nothing", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, err := parseStat(tt.line)
			if tt.want == "" {
				if err == nil {
					t.Errorf("parseStat = %q, want an error", f)
				}
				return
			}
			if err != nil || f[ppid] != tt.want || f[utime] != "11" || f[cstime] != "14" {
				t.Errorf("parseStat = %q, %v, want parent %s", f, err, tt.want)
			}
		})
	}
}

func TestMachineIsDescribed(t *testing.T) {
	if m := ReadMachine(); m.CPUs == 0 || m.MemoryMB == 0 || m.Kernel == "" || m.Go == "" {
		t.Errorf("%+v lacks something that every Linux tells", m)
	}
}
