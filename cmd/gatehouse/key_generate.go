package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/atenex/gatehouse/internal/token"
)

// defaultKeyAlgorithm is small, fast to verify and has no parameters to get wrong.
const defaultKeyAlgorithm = "EdDSA"

func newKeyGenerate(in *invocation) *cobra.Command {
	var (
		alg, kid, out string
		stdout, asSet bool
	)
	cmd := &cobra.Command{
		Use:   "generate (--out FILE | --stdout)",
		Short: "Make a key, as a JWK with its private half",
		Long: `Make a key, as a JWK with its private half, in a new file that its owner alone
can read. Its kid is printed. With --set the file is a key set whose one key
signs, for GATEWAY_JWT_KEYS_FILE.`,
		Example: "  gatehouse key generate --set --out /etc/gatehouse/keys.json\n  gatehouse key generate --alg ES256 --out next.json",
		Args:    takes(),
		RunE: in.runs(func(_ context.Context, _ []string) error {
			if (out == "") == !stdout {
				return misuse("one of --out FILE and --stdout is needed: a private key goes to no terminal unasked")
			}
			text, id, err := token.GenerateJWK(alg, kid)
			if err != nil {
				return misuse("--alg or --kid: %w", err)
			}
			if asSet {
				if text, err = token.AddJWK(nil, text); err != nil {
					return err
				}
			} else {
				text = append(text, '\n')
			}
			if stdout {
				return write(in.stdout, text)
			}
			if err := createSecretFile(out, text); err != nil {
				return err
			}
			return write(in.stdout, fmt.Appendf(nil, "%s\n", printable(id)))
		}),
	}
	cmd.Flags().StringVar(&alg, "alg", defaultKeyAlgorithm, "`ALGORITHM` of the key, as in GATEWAY_JWT_ALGORITHM")
	cmd.Flags().StringVar(&kid, "kid", "", "`NAME` of the key (default its RFC 7638 thumbprint)")
	cmd.Flags().StringVar(&out, "out", "", "write to this `FILE`, which must not exist yet")
	cmd.Flags().BoolVar(&stdout, "stdout", false, "print the private key on standard output")
	cmd.Flags().BoolVar(&asSet, "set", false, "make a key set of the one key")
	return cmd
}

// createSecretFile writes a file that was not there before and that nobody but
// its owner reads, whatever the umask says.
func createSecretFile(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already; a key is never written over", path)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Chmod(0o600), f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}
