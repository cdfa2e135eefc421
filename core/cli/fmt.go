package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/mox-like/mox-like/core/config"
)

// FmtOptions are the options of fmt.
type FmtOptions struct {
	// Names are files, folders, or - for the input; none means this folder.
	Names []string
	// Check changes nothing and exits with 1 where something would change.
	Check bool
	// Diff changes nothing and prints what would change.
	Diff bool
}

// maxFmt bounds a file that is laid out, in bytes; the server reads no larger one.
const maxFmt = 4 << 20

func newFmtCommand(s Streams) *cobra.Command {
	var o FmtOptions
	cmd := &cobra.Command{
		Use:        "fmt [FILE|DIR]...",
		SuggestFor: []string{"format", "indent"},
		Short:      "Lay configuration files out in the one usual way",
		Long: `Lay configuration files out in the one usual way: indentation, equals signs and
comments that line up, at most one empty line in a row. Comments and the order stay,
and so does what the files mean. What is laid out already is not touched.

In a folder these are all files that end in .hcl, those in folders below it too;
without a name it is the folder that you are in. '-' reads the input and writes the
output.

Exit status:
  0  all is laid out
  1  a file has errors, or --check found one that is not laid out
  2  it could not be done; the message says why`,
		Example: `  mox-like fmt
  mox-like fmt --check /etc/mox-like
  mox-like fmt --diff mox-like.hcl
  mox-like fmt - < mox-like.hcl`,
		Args: cobra.ArbitraryArgs,
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return []string{"hcl"}, cobra.ShellCompDirectiveFilterFileExt
		},
		RunE: func(_ *cobra.Command, args []string) error {
			o.Names = args
			return runFmt(&o, s)
		},
	}
	cmd.Flags().BoolVar(&o.Check, "check", false, "change nothing; exit with 1 and name the files that are not laid out")
	cmd.Flags().BoolVar(&o.Diff, "diff", false, "change nothing; print what would change")
	return cmd
}

// runFmt goes on after errors, so that all of them are told.
func runFmt(o *FmtOptions, s Streams) error {
	names := o.Names
	if len(names) == 0 {
		names = []string{"."}
	}
	f := &formatter{FmtOptions: o, Streams: s, seen: make(map[string]bool)}
	for _, name := range names {
		f.name(name)
	}
	if err := errors.Join(f.errs...); err != nil {
		return err
	}
	if f.invalid || o.Check && f.changes {
		return errInvalid
	}
	return nil
}

// formatter lays out one file after the other.
type formatter struct {
	*FmtOptions
	Streams
	seen             map[string]bool
	invalid, changes bool
	errs             []error
}

func (f *formatter) fail(err error) { f.errs = append(f.errs, err) }

// name takes a file, a folder or the input.
func (f *formatter) name(name string) {
	if name == "-" {
		src, err := io.ReadAll(io.LimitReader(f.In, maxFmt+1))
		if err != nil {
			f.fail(fmt.Errorf("read input: %w", err))
			return
		}
		f.text("<input>", src, func(out []byte) error {
			_, err := f.Out.Write(out)
			return err
		})
		return
	}
	info, err := os.Stat(name)
	switch {
	case err != nil:
		f.fail(fmt.Errorf("lay out: %w", err))
	case info.IsDir():
		f.folder(name)
	default:
		f.file(name)
	}
}

// folder takes all files of configuration below a folder, but for hidden folders.
func (f *formatter) folder(root string) {
	found := false
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != root && strings.HasPrefix(entry.Name(), "."):
			return filepath.SkipDir
		case entry.Type().IsRegular() && filepath.Ext(path) == ".hcl":
			found = true
			f.file(path)
		}
		return nil
	})
	if err == nil && !found {
		err = fmt.Errorf("there is no file that ends in .hcl: name the file itself")
	}
	if err != nil {
		f.fail(fmt.Errorf("lay out %s: %w", root, err))
	}
}

// file takes a file, once however it is named.
func (f *formatter) file(name string) {
	path, err := filepath.EvalSymlinks(name)
	if err != nil {
		f.fail(fmt.Errorf("lay out: %w", err))
		return
	}
	key := absolute(path)
	if f.seen[key] {
		return
	}
	f.seen[key] = true
	src, err := readBounded(path)
	if err != nil {
		f.fail(fmt.Errorf("lay out: %w", err))
		return
	}
	f.text(name, src, func(out []byte) error {
		if bytes.Equal(out, src) {
			return nil
		}
		if err := replaceFile(path, out); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
		_, err := fmt.Fprintln(f.Out, harmless(name))
		return err
	})
}

// text lays a text out and hands it to write, unless it is only looked at.
func (f *formatter) text(name string, src []byte, write func([]byte) error) {
	if len(src) > maxFmt {
		f.fail(fmt.Errorf("lay out %s: it is larger than %d bytes", name, maxFmt))
		return
	}
	out, ds := config.Format(name, src)
	if ds.HasErrors() {
		config.Print(f.Err, ds, map[string][]byte{name: config.Masked(src)}, config.PrintOptions{Color: color(f.Err)})
		f.invalid = true
		return
	}
	changed := !bytes.Equal(src, out)
	f.changes = f.changes || changed
	if f.Diff && changed {
		_, _ = f.Out.Write(unified(name, src, out)) // an output that is closed wants no more
	}
	switch {
	case f.Check && changed && !f.Diff:
		fmt.Fprintln(f.Out, harmless(name))
	case f.Check, f.Diff:
	default:
		if err := write(out); err != nil {
			f.fail(err)
		}
	}
}

func readBounded(path string) ([]byte, error) {
	in, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	src, err := io.ReadAll(io.LimitReader(in, maxFmt+1))
	return src, errors.Join(err, in.Close())
}

// replaceFile puts a text into the place of a file, whole or not at all. The mode
// stays, and for root the owner too.
func replaceFile(path string, text []byte) (err error) {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	temporary, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(temporary.Name()))
		}
	}()
	_, err = temporary.Write(text)
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && err == nil && os.Geteuid() == 0 {
		err = temporary.Chown(int(stat.Uid), int(stat.Gid))
	}
	if err == nil {
		err = temporary.Chmod(info.Mode())
	}
	if err == nil {
		err = temporary.Sync()
	}
	if err = errors.Join(err, temporary.Close()); err != nil {
		return err
	}
	return os.Rename(temporary.Name(), path)
}
