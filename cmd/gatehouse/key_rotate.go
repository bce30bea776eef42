package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/atenex/gatehouse/internal/atomicfile"
	"github.com/atenex/gatehouse/internal/config"
	"github.com/atenex/gatehouse/internal/token"
)

// publishTime is how long a key is to be known before it signs: twice what
// everybody may keep /.well-known/jwks.json for.
const publishTime = 10 * time.Minute

// rotation is one step.
type rotation struct {
	step, kid string // kid: of add, the name wished for
	alg       string
	file      string
	apply     bool
}

func newKeyRotate(in *invocation) *cobra.Command {
	var r rotation
	var out format
	cmd := &cobra.Command{
		Use:   "rotate add | promote KID | remove KID",
		Short: "Take one step of a rotation in a key set's file",
		Long: `Take one step of a rotation in a key set's file.

  add          a new key, which verifies only
  promote KID  this key signs; the one that did only verifies
  remove KID   a key that does not sign is gone, and with it every token it signed

Without --apply it is only said what would change. The file is replaced as a
whole, and never by a set that cannot be used. Services read it within seconds.`,
		Example: "  gatehouse key rotate add --apply\n  gatehouse key rotate promote 2031-05 --apply\n  gatehouse key rotate remove 2030-05",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 && args[0] == "add" {
				return takes("STEP")(cmd, args)
			}
			return takes("STEP", "KID")(cmd, args)
		},
		ValidArgs: []string{"add", "promote", "remove"},
		RunE: in.runs(func(_ context.Context, args []string) error {
			r.step = args[0]
			if r.step != "add" {
				if r.kid != "" {
					return misuse("--kid is for add; %s takes the KID as it is", r.step)
				}
				r.kid = args[1]
			}
			s, err := in.settings(config.NeedUp)
			if err != nil {
				return err
			}
			if r.file == "" {
				r.file = s.Tokens.KeysFile
			}
			if r.file == "" {
				return misuse("--file FILE is needed: GATEWAY_JWT_KEYS_FILE is not set")
			}
			return in.rotate(r, s.Tokens, out, time.Now())
		}),
	}
	cmd.Flags().StringVar(&r.file, "file", "", "the key set's `FILE` (default GATEWAY_JWT_KEYS_FILE)")
	cmd.Flags().StringVar(&r.alg, "alg", defaultKeyAlgorithm, "`ALGORITHM` of a key that is added")
	cmd.Flags().StringVar(&r.kid, "kid", "", "`NAME` of a key that is added (default its RFC 7638 thumbprint)")
	cmd.Flags().BoolVar(&r.apply, "apply", false, "do it")
	outputFlag(cmd, &out)
	return cmd
}

// rotationView is what a step does, or would do.
type rotationView struct {
	Applied bool      `json:"applied"`
	Keys    []keyView `json:"keys"` // afterwards
	Next    string    `json:"next"`
}

func (in *invocation) rotate(r rotation, t config.Tokens, out format, now time.Time) error {
	before, mode, err := readKeySet(r.file)
	if err != nil {
		return err
	}
	after, kid, err := r.edit(before)
	if err != nil {
		return err
	}
	set, err := token.Sources{Algorithm: t.Algorithm, JWKSet: after}.KeySet()
	if err != nil {
		return err
	}
	if r.apply {
		if err := replaceKeySet(r.file, before, after, mode); err != nil {
			return err
		}
	}
	view := rotationView{Applied: r.apply, Next: r.next(kid, t, now)}
	for _, k := range set.Describe() {
		view.Keys = append(view.Keys, viewKey(k))
	}
	if out == formatJSON {
		return writeJSON(in.stdout, view)
	}
	if !r.apply {
		in.complain("nothing was changed; --apply makes the key set this one (a key that is added is then made anew)")
	}
	if err := in.listKeys(set.Describe(), formatText); err != nil {
		return err
	}
	in.complain(view.Next)
	return nil
}

// edit makes the set of after the step, and names the key that the step is about.
func (r rotation) edit(before []byte) (after []byte, kid string, err error) {
	switch r.step {
	case "add":
		key, id, err := token.GenerateJWK(r.alg, r.kid)
		if err != nil {
			return nil, "", misuse("--alg or --kid: %w", err)
		}
		after, err := token.AddJWK(before, key)
		return after, id, err
	case "promote":
		after, err = token.PromoteJWK(before, r.kid)
	case "remove":
		after, err = token.RemoveJWK(before, r.kid)
	default:
		return nil, "", misuse("STEP %q: must be add, promote or remove", r.step)
	}
	if errors.Is(err, token.ErrNoKeyOfThatName) {
		err = fmt.Errorf("KID %q: %w", r.kid, err)
	}
	return after, r.kid, err
}

// next says what to do after the step, and when.
func (r rotation) next(kid string, t config.Tokens, now time.Time) string {
	switch r.step {
	case "add":
		return fmt.Sprintf("next: wait until every service has read the file and %s are over, so that everybody knows the key before it signs; then: gatehouse key rotate promote %s", publishTime, printable(kid))
	case "promote":
		return fmt.Sprintf("next: tokens signed with the other key are good until %s at the latest; not before then: gatehouse key rotate remove KID", stamp(now.Add(t.TTL+t.Leeway)))
	}
	return "tokens signed with the key that was removed are refused from now on"
}

// readKeySet refuses a link: what it leads to is replaced by those who made it,
// such as Kubernetes, and a new file in its place would cut it off.
func readKeySet(path string) ([]byte, os.FileInfo, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, nil, fmt.Errorf("%s is no regular file; change the key set where it comes from", path)
	}
	text, err := readSecretFile(path, "the key set")
	return []byte(text), info, err
}

// replaceKeySet puts the new set in the place of the one that the step was worked
// out from, with its mode and its owner: the services must be able to read it.
func replaceKeySet(path string, before, after []byte, was os.FileInfo) error {
	now, _, err := readKeySet(path)
	if err != nil {
		return err
	}
	if !bytes.Equal(now, before) {
		return errors.New("the key set was changed meanwhile; look at it again")
	}
	if err := atomicfile.Write(path, after, was.Mode().Perm()); err != nil {
		return err
	}
	if owner, ok := was.Sys().(*syscall.Stat_t); ok && int(owner.Uid) != os.Geteuid() {
		if err := os.Chown(path, int(owner.Uid), int(owner.Gid)); err != nil {
			return fmt.Errorf("the key set was replaced, and is not its owner's any more: %w", err)
		}
	}
	return nil
}
