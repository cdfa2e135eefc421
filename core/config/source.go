package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// Limits of what is read. They are far above real configurations and keep a
// mistaken name (a device, a mail spool) from filling the memory.
const (
	maxSource = 4 << 20 // bytes of one configuration file
	maxFile   = 1 << 20 // bytes that file() reads
	maxFiles  = 4096    // configuration files in all
)

// Options are what reading depends on beside the files. The zero value reads
// the environment and the files of the process.
type Options struct {
	// Variables are values for variable blocks, from the command line. They
	// stand above the environment and the defaults.
	Variables map[string]string
	// Environ looks up an environment variable; nil means os.LookupEnv.
	Environ func(name string) (string, bool)
	// EnvironNames lists the environment variables; nil means those of the process,
	// or none where Environ is set.
	EnvironNames func() []string
	// ReadFile reads a whole file; nil means the file system.
	ReadFile func(name string) ([]byte, error)
	// Offline has env() and file() give a value that is not known, but for a default
	// of env(), and so a variable that has no value. The environment gives none.
	Offline bool
	// Glob lists the files that match a pattern; nil means filepath.Glob.
	Glob func(pattern string) ([]string, error)
}

func (o Options) lookup(name string) (string, bool) {
	if o.Offline {
		return "", false
	}
	if o.Environ != nil {
		return o.Environ(name)
	}
	return os.LookupEnv(name)
}

// environNames lists the environment variables, sorted.
func (o Options) environNames() []string {
	var names []string
	switch {
	case o.Offline:
	case o.EnvironNames != nil:
		names = o.EnvironNames()
	case o.Environ == nil:
		for _, entry := range os.Environ() {
			name, _, _ := strings.Cut(entry, "=")
			names = append(names, name)
		}
	}
	return slices.Sorted(slices.Values(names))
}

// read gives a file of at most limit bytes.
func (o Options) read(name string, limit int) ([]byte, error) {
	content, err := o.readUpTo(name, limit)
	if err != nil {
		return nil, err
	}
	if len(content) > limit {
		return nil, fmt.Errorf("it is larger than %s", Size(limit))
	}
	return content, nil
}

func (o Options) readUpTo(name string, limit int) ([]byte, error) {
	if o.ReadFile != nil {
		return o.ReadFile(name)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	content, err := io.ReadAll(io.LimitReader(f, int64(limit)+1))
	return content, errors.Join(err, f.Close())
}

func (o Options) glob(pattern string) ([]string, error) {
	glob := o.Glob
	if glob == nil {
		glob = filepath.Glob
	}
	names, err := glob(pattern)
	slices.Sort(names)
	return names, err
}

// File is a configuration: a main file and what it includes.
type File struct {
	// Name is the main file's name as it was given.
	Name string
	// Root holds the attributes and blocks of the top level of all files, but
	// for variables and includes. What an included file holds stands where the
	// include stands. Root is never nil.
	Root *Block
	// Sources are the texts of the files by name, for Print. The defaults of
	// sensitive variables are made into stars.
	Sources map[string][]byte
	// Partial says that some file could not be read or parsed, so that Root
	// lacks what stands there, and mistakes found in it may be false.
	Partial bool

	raw map[string][]byte // the texts as they were read
}

// Has tells whether the configuration was read from a file of that name, among
// others.
func (f *File) Has(name string) bool {
	_, ok := f.Sources[name]
	return ok
}

// Load reads a file with its includes and variables. The File is never nil.
func Load(filename string, o Options) (*File, Diagnostics) {
	l := newLoader(filename, o)
	src, err := o.read(filename, maxSource)
	if err != nil {
		l.unreadable(hcl.Range{Filename: filename}, filename, err)
		return l.finish()
	}
	l.add(filename, src)
	return l.finish()
}

// Parse is Load for a text at hand; filename serves for places and includes.
func Parse(filename string, src []byte, o Options) (*File, Diagnostics) {
	l := newLoader(filename, o)
	l.add(filename, src)
	return l.finish()
}

// loader collects the files of one configuration.
type loader struct {
	env       *environment
	file      *File
	ds        Diagnostics
	variables []*Block
	// stack are the files that are being read, each with the place that
	// included it.
	stack []inclusion
	// seen are the places that included the files read so far.
	seen map[string]hcl.Range
	// broken says that some file does not parse.
	broken bool
}

type inclusion struct {
	key  string
	from hcl.Range
}

func newLoader(filename string, o Options) *loader {
	env := newEnvironment(o)
	start := hcl.Range{Filename: filename}
	return &loader{
		env:  env,
		seen: make(map[string]hcl.Range),
		file: &File{
			Name:    filename,
			Sources: make(map[string][]byte),
			raw:     make(map[string][]byte),
			Root: &Block{
				Body:     &hclsyntax.Body{Attributes: make(hclsyntax.Attributes), SrcRange: start, EndRange: start},
				DefRange: start, TypeRange: start, env: env,
			},
		},
	}
}

// finish evaluates the variables once all files are known.
func (l *loader) finish() (*File, Diagnostics) {
	ds := l.env.setVariables(l.variables, l.file)
	if !l.broken {
		l.ds.Append(ds)
	}
	l.ds.Sort()
	return l.file, l.ds
}

func (l *loader) unreadable(at hcl.Range, name string, err error) {
	l.file.Partial = true
	if errors.Is(err, fs.ErrNotExist) {
		l.ds.Errorf(at, "config/no-file", "no configuration file at %s", name).
			WithDetail("Check the name and the working directory.")
		return
	}
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		err = path.Err
	}
	l.ds.Errorf(at, "config/unreadable-file", "cannot read configuration file %s: %v", name, err).
		WithDetail("The file must be a regular file that the user who runs mox-like may read.")
}

// add parses a file and takes its contents into the root.
func (l *loader) add(filename string, src []byte) {
	key := fileKey(filename)
	if len(l.stack) == 0 {
		l.seen[key] = hcl.Range{Filename: filename}
		l.stack = append(l.stack, inclusion{key: key})
	}
	l.file.Sources[filename], l.file.raw[filename] = bytes.Clone(src), bytes.Clone(src)
	if ds := checkNesting(filename, src); ds != nil {
		l.ds.Append(ds)
		l.breakOff(filename)
		return
	}
	parsed, hds := hclsyntax.ParseConfig(src, filename, hcl.InitialPos)
	body := parsed.Body.(*hclsyntax.Body)
	ds := FromHCL("hcl/syntax", hds).withoutFollowUps()
	for i := range ds {
		if ds[i].Code == "config/duplicate-attribute" {
			relateDuplicate(&ds[i], body, src)
		} else {
			l.breakOff(filename)
		}
	}
	l.ds.Append(ds)
	l.merge(body)
}

// breakOff notes that a file does not parse.
func (l *loader) breakOff(filename string) {
	l.file.Partial, l.broken = true, true
	l.file.Sources[filename] = maskBroken(l.file.Sources[filename])
}

// fileKey tells whether two names mean one file.
func fileKey(name string) string {
	abs, err := filepath.Abs(name)
	if err != nil {
		return filepath.Clean(name)
	}
	if real, err := filepath.EvalSymlinks(abs); err == nil {
		return real
	}
	return abs
}

// merge takes the top level of a file into the root, in order.
func (l *loader) merge(body *hclsyntax.Body) {
	root := l.file.Root.Body
	include := body.Attributes["include"]
	included := include == nil
	for _, b := range body.Blocks {
		if !included && b.TypeRange.Start.Byte > include.SrcRange.Start.Byte {
			included = true
			l.include(include)
		}
		if b.Type == "variable" {
			l.variables = append(l.variables, newBlock(b, l.env))
			continue
		}
		root.Blocks = append(root.Blocks, b)
	}
	if !included {
		l.include(include)
	}
	for _, a := range (&Block{Body: body}).Attributes() {
		if a.Name == "include" {
			continue
		}
		if first, ok := root.Attributes[a.Name]; ok {
			l.ds.Errorf(a.NameRange, "config/duplicate-attribute", "attribute %q is set twice", a.Name).
				WithDetail("Remove one of them.").WithRelated(first.NameRange, "the first one stands here")
			continue
		}
		root.Attributes[a.Name] = a
	}
}

// include reads the files that an include attribute names.
func (l *loader) include(a *hclsyntax.Attribute) {
	var target struct {
		Include []string `config:"include,required"`
	}
	one := *l.file.Root
	one.Body = &hclsyntax.Body{Attributes: hclsyntax.Attributes{"include": a}}
	ds := Decode(&one, &target)
	l.ds.Append(ds)
	if ds.HasErrors() {
		l.file.Partial = true
		return
	}
	for i, pattern := range target.Include {
		l.includePattern(partRange(a.Expr, []any{i}), a.NameRange.Filename, pattern)
	}
}

func (l *loader) includePattern(at hcl.Range, from, pattern string) {
	full := pattern
	if !filepath.IsAbs(pattern) {
		full = filepath.Join(filepath.Dir(from), pattern)
	}
	names := []string{full}
	if strings.ContainsAny(pattern, `*?[\`) {
		var err error
		if names, err = l.env.options.glob(full); err != nil {
			l.file.Partial = true
			l.ds.Errorf(at, "config/bad-value", "%q is not a pattern of file names", pattern).
				WithDetail("A pattern has * for any characters, ? for one and [a-z] for one of several.")
			return
		}
	}
	if len(names) == 0 {
		l.ds.Warnf(at, "config/include-nothing", "no file matches %s", full).
			WithDetail("The pattern is relative to the file that includes. Correct it, or remove it.")
	}
	for _, name := range names {
		l.includeFile(at, name)
	}
}

func (l *loader) includeFile(at hcl.Range, name string) {
	key := fileKey(name)
	if i := slices.IndexFunc(l.stack, func(in inclusion) bool { return in.key == key }); i >= 0 {
		l.file.Partial = true
		d := l.ds.Errorf(at, "config/include-cycle", "%s includes itself", name).
			WithDetail("Remove the include, or use a pattern that does not match the file.")
		for _, in := range l.stack[i+1:] {
			d.WithRelated(in.from, "the way leads through this include")
		}
		return
	}
	if first, ok := l.seen[key]; ok {
		l.ds.Warnf(at, "config/included-twice", "%s is included already", name).
			WithDetail("It is read once. Remove one of the includes.").
			WithRelated(first, "the first include stands here")
		return
	}
	if len(l.seen) >= maxFiles {
		l.file.Partial = true
		l.ds.Errorf(at, "config/too-large", "more than %d configuration files", maxFiles)
		return
	}
	l.seen[key] = at
	src, err := l.env.options.read(name, maxSource)
	if err != nil {
		l.unreadable(at, name, err)
		return
	}
	l.stack = append(l.stack, inclusion{key: key, from: at})
	l.add(name, src)
	l.stack = l.stack[:len(l.stack)-1]
}
