package config_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/mox-like/mox-like/core/config"
)

// FuzzDecode reads and decodes a text as a deployment and prints what is wrong
// with it. Nothing panics, and a place is always inside its text.
func FuzzDecode(f *testing.F) {
	for _, folder := range []string{"valid", "warning", "invalid"} {
		names, err := filepath.Glob(filepath.Join("testdata", folder, "*.hcl"))
		if err != nil || len(names) == 0 {
			f.Fatalf("testdata/%s: %d files, %v", folder, len(names), err)
		}
		for _, name := range names {
			src, err := os.ReadFile(name)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(src)
		}
	}
	f.Add([]byte("include = [\"*\", \"a\", \"../test.hcl\"]\n"))
	f.Add([]byte("variable \"a\" {\n  type = object({ a = list(string) })\n  default = { a = [] }\n}\ntext = var.a.a[0]\n"))
	f.Add([]byte("listener \"a\" {\n  chain {\n    scan {\n      when = [for k, v in { a = tx.helo } : v if tx.tls][0] == tx.header[\"A\"]\n    }\n  }\n}\n"))
	fs := files{"a": "zone = 1\n", "b.hcl": "include = \"a\"\n"}
	f.Fuzz(func(t *testing.T, src []byte) {
		o := fs.options()
		o.Variables = map[string]string{"a": "b"}
		file, ds := config.Parse("test.hcl", src, o)
		_, more := check(file)
		ds.Append(more)
		for _, d := range ds {
			if text, ok := file.Sources[d.Range.Filename]; ok && (d.Range.Start.Byte > len(text) || d.Range.End.Byte > len(text)) {
				t.Errorf("%s: the place %+v is outside of the text", d, d.Range)
			}
			if d.Code == "" || d.Summary == "" {
				t.Errorf("a diagnostic lacks its code or its summary: %+v", d)
			}
		}
		config.Print(new(bytes.Buffer), ds, file.Sources, config.PrintOptions{})
	})
}
