package devstack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// Command is a program to run as a child.
type Command struct {
	Name string // what the output and the errors call it
	Path string
	// Args must hold nothing secret: every user of the machine can read them.
	Args []string
	// Env is the whole environment; nil means an empty one, so that no
	// setting of ours leaks into a program that has no use for it.
	Env []string
	// Dir is the working directory; empty means /, which every user can read.
	Dir string
	// Output gets what the program writes to standard output and error.
	Output io.Writer
	// Interrupt asks it to stop; zero means SIGTERM.
	Interrupt syscall.Signal
	// Orphaned is what the kernel sends it when the runner is killed (Linux
	// only); zero means SIGKILL.
	Orphaned syscall.Signal

	as runAs
}

// Process is a running child. It is started in a process group of its own, so
// that a Ctrl-C at the terminal reaches the runner alone, which then stops its
// children in order. On Linux the kernel signals it when the runner dies,
// kill -9 included.
type Process struct {
	name      string
	cmd       *exec.Cmd
	interrupt syscall.Signal
	said      tail
	done      chan struct{}
	err       error // valid after done
}

// outputGrace is how long output is read after the process has ended: a
// grandchild that keeps the pipe open must not keep the runner.
const outputGrace = 2 * time.Second

// Start runs the command. The child lives until it ends by itself or Stop.
func Start(c Command) (*Process, error) {
	p := &Process{
		name:      c.Name,
		cmd:       exec.Command(c.Path, c.Args...),
		interrupt: c.Interrupt,
		done:      make(chan struct{}),
	}
	if p.interrupt == 0 {
		p.interrupt = syscall.SIGTERM
	}
	if c.Orphaned == 0 {
		c.Orphaned = syscall.SIGKILL
	}
	p.cmd.Env = c.Env
	if p.cmd.Env == nil {
		p.cmd.Env = []string{}
	}
	p.cmd.Dir = c.Dir
	if p.cmd.Dir == "" {
		p.cmd.Dir = "/"
	}
	var out io.Writer = &p.said
	if c.Output != nil {
		out = io.MultiWriter(&p.said, c.Output)
	}
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.WaitDelay = outputGrace
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: c.as.credential}
	dieWithParent(p.cmd.SysProcAttr, c.Orphaned)

	started := make(chan error, 1)
	go func() {
		// The kernel's "parent" is the thread that made the child: were it to
		// end, which Go's threads do, the child would be signalled.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := p.cmd.Start(); err != nil {
			started <- err
			return
		}
		started <- nil
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("starting %s: %w", c.Name, err)
	}
	return p, nil
}

// PID is the process id, which is the id of its process group too.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended and its output has been read.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err says how the process ended, with its last lines, once Done is closed. It
// is never nil then: a server that ends with status 0 has ended all the same.
func (p *Process) Err() error {
	select {
	case <-p.done:
	default:
		return nil
	}
	how := "exit status 0"
	if p.err != nil && !errors.Is(p.err, exec.ErrWaitDelay) {
		how = p.err.Error()
	}
	return fmt.Errorf("%s exited: %s%s", p.name, how, p.said.suffix())
}

// Signal sends a signal to the process itself.
func (p *Process) Signal(s syscall.Signal) error { return p.cmd.Process.Signal(s) }

// Stop asks the process to stop and waits; at the end of ctx it kills the
// process group. It returns nil if the process stopped when asked, whatever
// its status, and an error if it had to be killed.
func (p *Process) Stop(ctx context.Context) error {
	return p.stop(ctx, p.interrupt)
}

func (p *Process) stop(ctx context.Context, ask ...syscall.Signal) error {
	for _, s := range ask {
		// It may have ended in between, which is what is wanted.
		_ = p.Signal(s)
	}
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
	}
	select {
	case <-p.done:
		return nil
	default:
	}
	p.kill()
	<-p.done
	return fmt.Errorf("%s did not stop in time and was killed%s", p.name, p.said.suffix())
}

// kill ends the whole group at once, unless its leader has ended already: then
// the group's number may be another's.
func (p *Process) kill() {
	if p.Signal(0) == nil {
		_ = syscall.Kill(-p.PID(), syscall.SIGKILL)
	}
}

// run waits for a command that ends by itself.
func run(ctx context.Context, c Command) error {
	p, err := Start(c)
	if err != nil {
		return err
	}
	select {
	case <-p.Done():
		if p.err != nil {
			return p.Err()
		}
		return nil
	case <-ctx.Done():
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = p.Stop(stopping)
		return fmt.Errorf("%s: %w", c.Name, context.Cause(ctx))
	}
}
