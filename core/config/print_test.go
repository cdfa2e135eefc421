package config_test

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"

	"github.com/mox-like/mox-like/core/config"
)

// at gives the place of a word in a text.
func at(t *testing.T, name, src, word string) hcl.Range {
	t.Helper()
	first := strings.Index(src, word)
	if first < 0 {
		t.Fatalf("%q is not in the text", word)
	}
	pos := func(offset int) hcl.Pos {
		head := src[:offset]
		return hcl.Pos{
			Line:   strings.Count(head, "\n") + 1,
			Column: utf8.RuneCountInString(head[strings.LastIndexByte(head, '\n')+1:]) + 1,
			Byte:   offset,
		}
	}
	return hcl.Range{Filename: name, Start: pos(first), End: pos(first + len(word))}
}

func TestPrint(t *testing.T) {
	t.Parallel()
	src := "server {\n" +
		"\thostname\t= \"mx\"\r\n" +
		"  name = \"日本語\" # 表\n" +
		"  accent = \"e\u0301tude\" # combining\n" +
		"  escape = \"\x1b[31m\u202e\"\n" +
		"  long = \"" + strings.Repeat("abcdefghij", 40) + "needle" + strings.Repeat("ABCDEFGHIJ", 40) + "\"\n" +
		"  list = [\n    1,\n  ]\n" +
		"}"
	other := strings.Repeat("\n", 1233) + "listener \"smtp\" {}\n"
	sources := map[string][]byte{"main.hcl": []byte(src), "other.hcl": []byte(other)}

	var ds config.Diagnostics
	ds.Errorf(hcl.Range{}, "test/no-place", "a mistake of no place").WithDetail("First line.\nSecond line.")
	ds.Errorf(at(t, "main.hcl", src, `"mx"`), "test/tabs", "tabs in front").
		WithRelated(at(t, "other.hcl", other, `"smtp"`), "the listener stands here").
		WithRelated(hcl.Range{Filename: "third.hcl"}, "a file without a text")
	ds.Warnf(at(t, "main.hcl", src, "本語"), "test/wide", "wide characters")
	ds.Warnf(at(t, "main.hcl", src, "# combining"), "test/combining", "combining characters")
	ds.Errorf(at(t, "main.hcl", src, "\u202e"), "test/control", "control \x1b[31m characters")
	ds.Errorf(at(t, "main.hcl", src, "needle"), "test/long", "a long line")
	ds.Errorf(at(t, "main.hcl", src, strings.Repeat("ABCDEFGHIJ", 40)), "test/longer", "a long place")
	ds.Errorf(at(t, "main.hcl", src, "[\n    1,\n  ]"), "test/lines", "a place of several lines").WithDetail("Help.")
	end := at(t, "main.hcl", src, "}")
	end.Start = end.End
	ds.Errorf(end, "test/end", "the end of the file")
	beyond := end
	beyond.Start.Byte, beyond.End.Byte = len(src)+5, len(src)+9
	ds.Errorf(beyond, "test/beyond", "a place outside of the text")

	for name, o := range map[string]config.PrintOptions{"plain": {}, "color": {Color: true}} {
		var out bytes.Buffer
		config.Print(&out, ds, sources, o)
		compareGolden(t, "testdata/print/"+name+".golden", out.Bytes())
		if name == "plain" && strings.Contains(out.String(), "\x1b") {
			t.Error("plain output has escape sequences")
		}
	}
}

// FuzzPrint holds that no place and no text makes the printer panic, or print a
// control character.
func FuzzPrint(f *testing.F) {
	f.Add([]byte("a = 1\nb = 2\n"), 1, 0, 5)
	f.Add([]byte("\t日本\r\n"), 1, 1, 4)
	f.Add([]byte(""), 7, 9, -3)
	f.Fuzz(func(t *testing.T, src []byte, line, start, end int) {
		var ds config.Diagnostics
		r := hcl.Range{Filename: "f", Start: hcl.Pos{Line: line, Column: 1, Byte: start}, End: hcl.Pos{Line: line, Column: 1, Byte: end}}
		ds.Errorf(r, "a/b", "%s", src).WithRelated(r, "%s", src)
		var out bytes.Buffer
		config.Print(&out, ds, map[string][]byte{"f": src}, config.PrintOptions{})
		for _, c := range out.Bytes() {
			if c < ' ' && c != '\n' {
				t.Fatalf("control character %q in\n%q", c, out.String())
			}
		}
	})
}
