package mail_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core/mail"
)

func TestParseHeaderSection(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		in     string
		fields [][2]string // name and value
		body   string
	}{
		"two fields":              {"From: a\r\nTo: b\r\n\r\nbody", [][2]string{{"From", "a"}, {"To", "b"}}, "body"},
		"folded":                  {"Subject: a\r\n\tb\r\n c\r\n\r\n", [][2]string{{"Subject", "a\tb c"}}, ""},
		"bare LF":                 {"From: a\nTo: b\n\nbody", [][2]string{{"From", "a"}, {"To", "b"}}, "body"},
		"no body":                 {"From: a\r\n", [][2]string{{"From", "a"}}, ""},
		"no line end":             {"From: a", [][2]string{{"From", "a"}}, ""},
		"no header section":       {"\r\nbody", nil, "body"},
		"empty":                   {"", nil, ""},
		"no field":                {"not a field\r\nFrom: a\r\n\r\n", [][2]string{{"", ""}, {"From", "a"}}, ""},
		"space before the colon":  {"From : a\r\n\r\n", [][2]string{{"From", "a"}}, ""},
		"space within the name":   {"X Y: a\r\n\r\n", [][2]string{{"", "a"}}, ""},
		"fold at the very start":  {" From: a\r\n\r\nbody", [][2]string{{"", "a"}}, "body"},
		"empty value":             {"X:\r\n\r\n", [][2]string{{"X", ""}}, ""},
		"colon in the value":      {"X: a: b\r\n\r\n", [][2]string{{"X", "a: b"}}, ""},
		"white space only line":   {"X: a\r\n \r\nY: b\r\n\r\n", [][2]string{{"X", "a"}, {"Y", "b"}}, ""},
		"NUL in the name":         {"X\x00: a\r\n\r\n", [][2]string{{"", "a"}}, ""},
		"body with a header look": {"X: a\r\n\r\nY: b\r\n\r\n", [][2]string{{"X", "a"}}, "Y: b\r\n\r\n"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, offset, err := mail.ParseHeaderSection([]byte(tt.in))
			if err != nil {
				t.Fatal(err)
			}
			var got [][2]string
			for _, f := range h.Fields {
				got = append(got, [2]string{f.Name, f.Value()})
			}
			if diff := cmp.Diff(tt.fields, got); diff != "" {
				t.Errorf("fields (-want +got):\n%s", diff)
			}
			if got := tt.in[offset:]; got != tt.body {
				t.Errorf("body %q, want %q", got, tt.body)
			}
		})
	}
}

func TestHeaderSectionIsBounded(t *testing.T) {
	t.Parallel()
	for _, in := range []string{
		strings.Repeat("X: a\r\n", mail.MaxHeaderSize/6+1),
		"X: " + strings.Repeat("a", mail.MaxHeaderSize),
		"X: a\r\n" + strings.Repeat(" b\r\n", mail.MaxHeaderSize/4+1) + "\r\n",
	} {
		if _, _, err := mail.ParseHeaderSection([]byte(in)); !errors.Is(err, mail.ErrHeaderTooLarge) {
			t.Errorf("%.20q…: %v", in, err)
		}
	}
}

// TestHeaderFieldsAreBounded pins that the bound is for what comes in: what is
// stored has the server's own fields besides.
func TestHeaderFieldsAreBounded(t *testing.T) {
	t.Parallel()
	full := []byte(strings.Repeat("X:\r\n", mail.MaxHeaderFields) + "\r\n")
	if _, err := mail.NewMessage(full); err != nil {
		t.Errorf("%d fields: %v", mail.MaxHeaderFields, err)
	}
	one := append([]byte("X:\r\n"), full...)
	if _, err := mail.NewMessage(one); !errors.Is(err, mail.ErrHeaderTooLarge) {
		t.Errorf("one field more: %v", err)
	}
	s := mail.NewSpool(t.TempDir(), 10)
	t.Cleanup(func() { _ = s.Close() })
	if _, err := s.Write(one); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Message(); !errors.Is(err, mail.ErrHeaderTooLarge) {
		t.Errorf("one field more, in a file: %v", err)
	}
	if h, _, err := mail.ParseHeaderSection(one); err != nil || len(h.Fields) != mail.MaxHeaderFields+1 {
		t.Errorf("parsed %d fields, %v", len(h.Fields), err)
	}
}

func TestHeaderSectionLookUp(t *testing.T) {
	t.Parallel()
	h, _, err := mail.ParseHeaderSection([]byte("received: 1\r\nFrom: a\r\nRECEIVED: 2\r\n\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	if n := h.Count("Received"); n != 2 {
		t.Errorf("%d Received fields", n)
	}
	if got := h.Get("Received"); got != "1" {
		t.Errorf("first Received %q", got)
	}
	if got := h.Get("X-Not-There"); got != "" {
		t.Errorf("a field that is not there: %q", got)
	}
}

func FuzzParseHeaderSection(f *testing.F) {
	for _, s := range []string{"From: a\r\nTo: b\r\n\r\nbody", "X: a\r\n b\r\n\r\n", "\r\n", " \r\n", "X", ":", "a\n\nb"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		h, offset, err := mail.ParseHeaderSection(raw)
		if err != nil {
			return
		}
		var joined []byte
		for _, field := range h.Fields {
			joined = append(joined, field.Raw...)
			_ = field.Value()
		}
		separator := raw[len(joined):offset]
		if !bytes.Equal(joined, raw[:len(joined)]) || len(bytes.Trim(separator, "\r\n")) > 0 || len(separator) > 2 {
			t.Errorf("%q: fields %q, separator %q", raw, joined, separator)
		}
	})
}
