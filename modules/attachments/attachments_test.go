package attachments

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core/mail"
)

// want is what becomes of a message by the settings of newHandler.
type want struct {
	action mail.Action
	reason string // a part of it
}

func denied(reason string) want { return want{mail.ActionReject, reason} }
func passes(reason string) want { return want{mail.ActionContinue, reason} }
func nested(n int, s string) string {
	for i := range n {
		s = mixed(fmt.Sprint("b", i), s)
	}
	return s
}

// sample is a message and what becomes of it.
type sample struct {
	raw  string
	want want
}

// corpus has messages of all forms.
func corpus(tb testing.TB) map[string]sample {
	tb.Helper()
	clean := zipped(tb, packed{name: "docs/", store: true}, packed{name: "docs/report.txt", content: []byte(strings.Repeat("text ", 5000))}, packed{name: "empty", content: nil})
	evil := zipped(tb, packed{name: "docs/report.txt", content: []byte("text")}, packed{name: "docs/Report.EXE", content: []byte("text")})
	renamed := zipped(tb, packed{name: "report.txt", content: program})
	inner := func(n int, content []byte) []byte {
		for i := range n {
			content = zipped(tb, packed{name: fmt.Sprintf("level%d.zip", i), content: content, store: i%2 == 1})
		}
		return content
	}
	truncated := bytes.Clone(clean[:len(clean)-30])
	lying := bytes.Replace(clean, []byte("report.txt"), []byte("report.exe"), 1)
	prefixed := append(bytes.Repeat([]byte("prefix "), 1000), evil...)
	commented := bytes.Clone(evil)
	commented[len(commented)-2], commented[len(commented)-1] = 0x10, 0x27
	commented = append(commented, bytes.Repeat([]byte("x"), 10000)...)
	manyEntries := func() []byte {
		var files []packed
		for i := range 2001 {
			files = append(files, packed{name: fmt.Sprint(i), store: true})
		}
		return zipped(tb, files...)
	}()
	noise := make([]byte, 600_000)
	random := rand.New(rand.NewPCG(3, 4))
	for i := range noise {
		noise[i] = byte(random.Uint32())
	}
	large := zipped(tb, packed{name: "noise", content: noise, store: true}, packed{name: "b.exe", content: []byte("text")})
	part := func(p ...string) string { return message(mixed("x", append([]string{text}, p...)...)) }
	named := func(header string) string { return part(header + "\r\n" + inBase64([]byte("hello"))) }
	return map[string]sample{
		"plain":                     {message(text), passes("MIME parts: 1, zip archives: 0")},
		"empty":                     {"", passes("MIME parts: 1, ")},
		"header only":               {top, passes("MIME parts: 1, ")},
		"clean file":                {part(filePart("a.txt", []byte("hello"))), passes("MIME parts: 3, ")},
		"name":                      {part(filePart("a.exe", []byte("hello"))), denied(`"a.exe": the name matches *.exe`)},
		"name in the top":           {message("Content-Type: text/plain; name=a.exe\r\n\r\nhello"), denied(`"a.exe"`)},
		"upper case":                {part(filePart("A.ExE", []byte("hello"))), denied(`"A.ExE"`)},
		"dots and spaces behind":    {part(filePart("a.exe. .", []byte("hello"))), denied(`"a.exe. ."`)},
		"folder":                    {part(filePart(`C:\docs\a.exe`, []byte("hello"))), denied("*.exe")},
		"stream of NTFS":            {part(filePart("a.exe::$DATA", []byte("hello"))), denied("*.exe")},
		"direction":                 {part(filePart("a\u202etxt.exe\u202c", []byte("hello"))), denied("*.exe")},
		"zero byte":                 {named("Content-Disposition: attachment; filename*=utf-8''a.exe%00.txt"), denied("*.exe")},
		"not at the end":            {part(filePart("a.exe.txt", []byte("hello"))), passes("MIME parts: 3, ")},
		"unquoted":                  {named("Content-Disposition: attachment; filename=my a.exe"), denied("*.exe")},
		"unquoted, more behind":     {named("Content-Disposition: attachment; filename=a.exe (a comment); size=1"), denied("*.exe")},
		"quote without an end":      {named(`Content-Disposition: attachment; filename="a.exe`), denied("*.exe")},
		"escapes":                   {named(`Content-Disposition: attachment; filename="a\"b.e\\xe"; filename=b\.exe`), denied("*.exe")},
		"folded":                    {named("Content-Disposition: attachment;\r\n\tfilename\r\n =\r\n \"a.exe\""), denied("*.exe")},
		"name of the type":          {named("Content-Type: application/pdf; name=a.exe\r\nContent-Disposition: attachment; filename=a.pdf"), denied("*.exe")},
		"two fields":                {named("Content-Disposition: inline; filename=a.pdf\r\nContent-Disposition: attachment; filename=a.exe"), denied("*.exe")},
		"two parameters":            {named("Content-Disposition: inline; filename=a.exe; filename=a.pdf"), denied("*.exe")},
		"RFC 2231":                  {named("Content-Disposition: attachment; filename*=utf-8'en'r%C3%A9port%2Eexe"), denied(`"réport.exe"`)},
		"RFC 2231, Latin":           {named("Content-Disposition: attachment; filename*=iso-8859-1''r%E9port.exe"), denied(`"réport.exe"`)},
		"RFC 2231, parts":           {named("Content-Disposition: attachment; filename*1=\"port.e\"; filename*0*=utf-8''r%C3%A9; filename*2*=%78e"), denied(`"réport.exe"`)},
		"RFC 2047":                  {named("Content-Disposition: attachment; filename=\"=?utf-8?B?YS5leGU=?=\""), denied("*.exe")},
		"RFC 2047, two words":       {named("Content-Disposition: attachment; filename=\"=?utf-8?q?a=2Ee?= =?iso-8859-1*en?Q?xe?=\""), denied("*.exe")},
		"RFC 2047, no padding":      {named("Content-Disposition: attachment; filename=\"x=?utf-8?B?YS5leGU?=\""), denied("*.exe")},
		"RFC 2047, UTF-16":          {named("Content-Disposition: attachment; filename=\"=?utf-16be?B?AGEALgBlAHgAZQ==?=\""), denied("*.exe")},
		"RFC 2047, broken":          {named("Content-Disposition: attachment; filename=\"=?utf-8?B?YS5leGU\""), passes("MIME parts: 3, ")},
		"program":                   {part(filePart("a.txt", program)), denied("the content is application/x-dosexec")},
		"program, quoted-printable": {part("Content-Type: text/plain\r\n" + inQuotedPrintable(program)), denied(`"(without a name)": the content is`)},
		"program, 8bit":             {part("Content-Transfer-Encoding: 8bit\r\n\r\n" + string(elf)), denied("application/x-elf")},
		"program, two encodings":    {part("Content-Transfer-Encoding: 7bit\r\nContent-Type: text/plain\r\n" + inBase64(elf)), denied("application/x-elf")},
		"program, encoding oddly":   {part("Content-Transfer-Encoding: BASE64 (yes)\r\n\r\n" + "!f0VM\r\n*RgIBAQ\r\n"), denied("application/x-elf")},
		"text that begins with MZ":  {part(filePart("a.txt", []byte("MZ is the area of Mainz\r\n"+strings.Repeat("text ", 100)))), passes("MIME parts: 3, ")},
		"script":                    {part(filePart("a", []byte("#!/bin/sh\n"))), passes("MIME parts: 3, ")},
		"nested":                    {message(nested(5, filePart("a.exe", nil))), denied("*.exe")},
		"attached message":          {part("Content-Type: message/rfc822\r\n\r\n" + part(filePart("a.exe", nil))), denied("*.exe")},
		"attached, same boundary":   {part("Content-Type: message/rfc822; name=m.eml\r\n\r\n"+part(text), filePart("a.exe", nil)), denied("*.exe")},
		"attached, in base64":       {part("Content-Type: message/rfc822\r\n" + inBase64([]byte(part(filePart("a.exe", nil))))), denied("*.exe")},
		"multipart in base64":       {part("Content-Type: multipart/mixed; boundary=y\r\n" + inBase64([]byte("--y\r\n"+filePart("a.exe", nil)+"\r\n--y--"))), denied("*.exe")},
		"digest":                    {message("Content-Type: multipart/digest; boundary=x\r\n\r\n--x\r\n\r\n" + message(filePart("a.exe", nil)) + "\r\n--x--"), denied("*.exe")},
		"name of an attached one":   {part("Content-Type: message/rfc822; name=a.exe\r\n\r\n" + message(text)), denied("*.exe")},
		"no end":                    {strings.TrimSuffix(part(filePart("a.exe", nil)), "--x--\r\nEpilogue.\r\n"), denied("*.exe")},
		"behind the end":            {part() + "--x\r\n" + filePart("a.exe", nil), denied("*.exe")},
		"inner without an end":      {message(mixed("x", "Content-Type: multipart/mixed; boundary=y\r\n\r\n--y\r\n"+text, filePart("a.exe", nil))), denied("*.exe")},
		"no boundary":               {message("Content-Type: multipart/mixed\r\n\r\n--x\r\n" + filePart("a.exe", nil)), passes("MIME parts: 1, ")},
		"boundary never comes":      {message("Content-Type: multipart/mixed; boundary=z\r\n\r\n" + string(elf)), denied("application/x-elf")},
		"two boundaries":            {message("Content-Type: multipart/mixed; boundary=x\r\nContent-Type: multipart/mixed; boundary=y\r\n\r\n--y\r\n" + filePart("a.exe", nil)), denied("*.exe")},
		"spaces behind boundary":    {message("Content-Type: multipart/mixed; boundary=\"x \"\r\n\r\n--x \t \r\n" + filePart("a.exe", nil)), denied("*.exe")},
		"bare line feeds":           {strings.ReplaceAll(part(filePart("a.exe", nil)), "\r\n", "\n"), denied("*.exe")},
		"delimiter in a header":     {message("Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nContent-Type: text/plain; name=a.exe\r\n--x--\r\n"), denied("*.exe")},
		"zip":                       {part(filePart("a.zip", clean)), passes("zip archives: 1, entries in them: 3")},
		"zip with a program":        {part(filePart("a.zip", evil)), denied(`"docs/Report.EXE": the name matches *.exe`)},
		"zip, quoted-printable":     {part("Content-Type: application/zip\r\n" + inQuotedPrintable(evil)), denied("*.exe")},
		"zip with another name":     {part(filePart("a.dat", evil)), denied("*.exe")},
		"zip, content renamed":      {part(filePart("a.zip", renamed)), denied(`"report.txt": the content is application/x-dosexec`)},
		"zip behind something":      {part(filePart("a.zip", prefixed)), denied("*.exe")},
		"zip with a comment":        {part(filePart("a.zip", commented)), denied("*.exe")},
		"zip in zip":                {part(filePart("a.zip", inner(3, evil))), denied("*.exe")},
		"zip in zip, large":         {part(filePart("a.zip", zipped(tb, packed{name: "large.zip", content: large}))), denied(`"b.exe": the name`)},
		"zip in zip, clean":         {part(filePart("a.zip", inner(3, clean))), passes("zip archives: 4, entries in them: 6")},
		"zip in zip, too deep":      {part(filePart("a.zip", inner(4, clean))), denied(`"level0.zip": archives are nested deeper than archive_depth, 3`)},
		"zip, cut":                  {part(filePart("a.zip", truncated)), denied(`"a.zip": the archive is broken`)},
		"zip, two names":            {part(filePart("a.zip", lying)), denied(`is named "docs/report.exe" by itself`)},
		"no zip":                    {part(filePart("a.zip", []byte("hello"))), passes("zip archives: 0, ")},
		"zip64":                     {part(filePart("a.zip", zip64("b.txt", []byte("text")))), passes("zip archives: 1, entries in them: 1")},
		"zip64, program":            {part(filePart("a.zip", zip64("b.txt", program))), denied(`"b.txt": the content is`)},
		"zip, second name":          {part(filePart("a.zip", zipped(tb, packed{name: "b.txt", extra: []byte("\x75\x70\x0a\x00\x01\x00\x00\x00\x00b.exe")}))), denied(`"b.exe": the name`)},
		"zip of nothing":            {part(filePart("a.zip", zipped(tb))), passes("zip archives: 1, entries in them: 0")},
		"zip, encrypted":            {part(filePart("a.zip", zipped(tb, packed{name: "a.txt", content: []byte("xxxx"), flags: flagEncrypted}))), passes(`"a.zip": the archive is encrypted`)},
		"zip, encrypted program":    {part(filePart("a.zip", zipped(tb, packed{name: "a.exe", content: []byte("xxxx"), flags: flagEncrypted}))), denied("*.exe")},
		"zip, many entries":         {part(filePart("a.zip", manyEntries)), denied("max_entries, 2000")},
		"many parts":                {message("Content-Type: multipart/mixed; boundary=x\r\n\r\n" + strings.Repeat("--x\r\n\r\n", 50_000)), denied("max_parts, 1000")},
		"deep":                      {message(nested(31, text)), denied("max_depth, 30")},
		"not too deep":              {message(nested(30, text)), passes("MIME parts: 31, ")},
		"large header":              {part("X-A: " + strings.Repeat("x", 70_000) + "\r\n\r\n"), denied("max_header, 64KiB")},
	}
}

func TestCorpus(t *testing.T) {
	t.Parallel()
	tests := corpus(t)
	bombs := map[string]want{
		// The zeros in it are never unpacked.
		message(filePart("a.zip", bomb(t, 2, 5))):         passes("zip archives: 31, entries in them: 55"),
		message(filePart("a.zip", zipOfZeros(t, 60<<20))): denied("max_unpacked, 50MiB"),
	}
	for raw, want := range bombs {
		tests["bomb: "+want.reason] = sample{raw, want}
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tx := newTransaction(t, test.raw)
			got, err := newHandler(t, nil).Handle(t.Context(), tx)
			if err != nil {
				t.Fatal(err)
			}
			if got.Action != test.want.action || !strings.Contains(got.Reason, test.want.reason) {
				t.Errorf("verdict %s, %q; want %s, %q", got.Action, got.Reason, test.want.action, test.want.reason)
			}
			if got.Action == mail.ActionReject && (got.Reply.Code != 550 || strings.ContainsFunc(got.Reply.Text, func(r rune) bool { return r < ' ' || r > '~' })) {
				t.Errorf("reply %v", got.Reply)
			}
		})
	}
}

func TestActions(t *testing.T) {
	t.Parallel()
	encrypted := filePart("a.zip", zipped(t, packed{name: "a.txt", content: []byte("xxxx"), flags: flagEncrypted}))
	broken := filePart("b.zip", []byte("PK\x03\x04 and nothing more"))
	program := filePart("a.exe", nil)
	tests := map[string]struct {
		parts                         []string
		action, encrypted, tooComplex string
		want                          mail.Action
		reply                         string
		tags                          []string
	}{
		"reject":              {[]string{program}, "reject", "tag", "tag", mail.ActionReject, `Attachment not allowed: "a.exe"`, nil},
		"quarantine":          {[]string{program}, "quarantine", "tag", "tag", mail.ActionQuarantine, "", nil},
		"tag":                 {[]string{program}, "tag", "tag", "tag", mail.ActionContinue, "", []string{"attachments=denied"}},
		"encrypted, reject":   {[]string{encrypted}, "tag", "reject", "tag", mail.ActionReject, `Encrypted archive not allowed: "a.zip"`, nil},
		"encrypted, accept":   {[]string{encrypted}, "tag", "accept", "tag", mail.ActionContinue, "", nil},
		"complex, reject":     {[]string{broken}, "tag", "tag", "reject", mail.ActionReject, "Message is too complex or too broken to be examined", nil},
		"complex, quarantine": {[]string{broken}, "tag", "tag", "quarantine", mail.ActionQuarantine, "", nil},
		"complex, accept":     {[]string{broken}, "tag", "tag", "accept", mail.ActionContinue, "", nil},
		"the worst counts":    {[]string{encrypted, broken, program}, "reject", "tag", "quarantine", mail.ActionReject, `Attachment not allowed: "a.exe"`, []string{"attachments=encrypted"}},
		"all tags":            {[]string{program, encrypted, broken}, "tag", "tag", "tag", mail.ActionContinue, "", []string{"attachments=denied", "attachments=encrypted", "attachments=too-complex"}},
		"foreign letters":     {[]string{filePart("ä\u00a0b.exe", nil)}, "reject", "tag", "tag", mail.ActionReject, `Attachment not allowed: "??b.exe"`, nil},
		"long name":           {[]string{filePart(strings.Repeat("long", 200)+".exe", nil)}, "reject", "tag", "tag", mail.ActionReject, `Attachment not allowed: "` + strings.Repeat("long", 25) + `?"`, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newHandler(t, func(a *Attachments) {
				a.Action, a.Encrypted, a.TooComplex = test.action, test.encrypted, test.tooComplex
			})
			tx := newTransaction(t, message(mixed("x", test.parts...)))
			got, err := a.Handle(t.Context(), tx)
			if err != nil {
				t.Fatal(err)
			}
			if got.Action != test.want || got.Reply.Text != test.reply {
				t.Errorf("verdict %s, %v, %q; want %s, %q", got.Action, got.Reply, got.Reason, test.want, test.reply)
			}
			if diff := cmp.Diff(test.tags, tx.Tags()); diff != "" {
				t.Errorf("tags (-want +got):\n%s", diff)
			}
		})
	}
}

// TestBoundsAreNoWayAround: what is behind a bound is not looked at, and what is
// beside a broken file is.
func TestBoundsAreNoWayAround(t *testing.T) {
	t.Parallel()
	lax := newHandler(t, func(a *Attachments) { a.TooComplex = "accept" })
	lying := bytes.Replace(zipped(t, packed{name: "a.txt"}, packed{name: "b.exe"}), []byte("a.txt"), []byte("c.txt"), 1)
	for name, raw := range map[string]string{
		"beside a broken archive":    message(mixed("x", filePart("b.zip", []byte("PK\x03\x04")), filePart("a.exe", nil))),
		"behind a broken entry":      message(mixed("x", filePart("b.zip", lying))),
		"beside a large header":      message(mixed("x", "X: "+strings.Repeat("x", 70_000)+"\r\n\r\n", filePart("a.exe", nil))),
		"beside what is nested deep": message(mixed("x", nested(40, text), filePart("a.exe", nil))),
	} {
		got, err := lax.Handle(t.Context(), newTransaction(t, raw))
		if err != nil || got.Action != mail.ActionReject {
			t.Errorf("%s: verdict %+v, %v; want a rejection", name, got, err)
		}
	}
}

func TestTypes(t *testing.T) {
	t.Parallel()
	iso := make([]byte, 40_000)
	copy(iso[isoOffset:], "CD001")
	iso[0] = 1
	tests := map[string]struct {
		content []byte
		want    string
	}{
		"PE":             {program, typeDOS},
		"DOS":            {append([]byte("MZ"), make([]byte, 10)...), typeDOS},
		"ELF":            {elf, typeELF},
		"Mach-O":         {[]byte("\xcf\xfa\xed\xfe\x07\x00\x00\x01"), typeMachO},
		"Mach-O, fat":    {[]byte("\xca\xfe\xba\xbe\x00\x00\x00\x02"), typeMachO},
		"Java":           {[]byte("\xca\xfe\xba\xbe\x00\x00\x00\x34"), typeJava},
		"script":         {[]byte("#!/usr/bin/perl\n"), typeScript},
		"shortcut":       {[]byte("L\x00\x00\x00\x01\x14\x02\x00\x00"), typeShortcut},
		"OLE":            {oleFile(false), typeOLE},
		"OLE, macros":    {oleFile(true), typeMacros},
		"Office, macros": {zipped(t, packed{name: "word/document.xml", content: []byte("<?xml?>")}, packed{name: "word/vbaProject.bin", content: []byte("x")}), typeMacros},
		"in an archive":  {zipped(t, packed{name: "a.doc", content: oleFile(true)}), typeMacros},
		"ISO":            {iso, typeISO},
		"ISO in a zip":   {zipped(t, packed{name: "a.img", content: iso}), typeISO},
		"PDF":            {[]byte("%PDF-1.7\n"), "application/pdf"},
		"PNG":            {[]byte("\x89PNG\r\n\x1a\n"), "image/png"},
		"HTML":           {[]byte("<!DOCTYPE html><html>"), "text/html"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			raw := message("Content-Type: application/octet-stream\r\n" + inBase64(test.content))
			for _, types := range []string{test.want, "*/*"} {
				a := newHandler(t, func(a *Attachments) { a.Types = []string{types} })
				got, err := a.Handle(t.Context(), newTransaction(t, raw))
				if err != nil || got.Action != mail.ActionReject || types == test.want && !strings.Contains(got.Reason, test.want) {
					t.Errorf("with %s: verdict %+v, %v", types, got, err)
				}
			}
			a := newHandler(t, func(a *Attachments) { a.Types = []string{"audio/midi"} })
			if got, err := a.Handle(t.Context(), newTransaction(t, raw)); err != nil || got.Action != mail.ActionContinue {
				t.Errorf("with another type: verdict %+v, %v", got, err)
			}
		})
	}
}

// TestContentAtAnyPlace reads decoded content in pieces from anywhere.
func TestContentAtAnyPlace(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	original := make([]byte, 300_001)
	for i := range original {
		original[i] = byte(random.Uint32())
	}
	for e, body := range map[encoding]string{
		identity: string(original), base64: inBase64(original), quotedPrintable: inQuotedPrintable(original),
	} {
		if e != identity {
			_, body, _ = strings.Cut(body, "\r\n\r\n")
		}
		c := newContent(newTransaction(t, "\r\n"+body).Message.OpenBody(), e, newBudget(10<<20, t.Context().Err))
		for range 200 {
			from := random.Int64N(int64(len(original)))
			piece := make([]byte, random.IntN(50_000))
			n, _ := c.ReadAt(piece, from)
			if want := original[from:min(int(from)+len(piece), len(original))]; !bytes.Equal(piece[:n], want) {
				t.Fatalf("encoding %d: %d bytes from %d are not the original's", e, len(piece), from)
			}
		}
		if size, err := c.size(); err != nil || size != int64(len(original)) {
			t.Errorf("encoding %d: size %d, %v", e, size, err)
		}
	}
}

func TestEndsWithItsTime(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, part := range []string{filePart("a.zip", bomb(t, 1, 3)), text, "\r\n" + strings.Repeat("x\r\n", 100_000)} {
		if v, err := newHandler(t, nil).Handle(ctx, newTransaction(t, message(part))); !errors.Is(err, context.Canceled) {
			t.Errorf("verdict %+v, %v; want that the time is up", v, err)
		}
	}
}

// large is a message with a file of 18 MB that cannot be compressed, 25 MB in
// base64.
func large(tb testing.TB) string {
	tb.Helper()
	random := rand.New(rand.NewPCG(1, 2))
	content := make([]byte, 18<<20)
	for i := range content {
		content[i] = byte(random.Uint32())
	}
	return message(mixed("x", text, filePart("a.zip", zipped(tb, packed{name: "a.bin", content: content, store: true}))))
}

func TestMemoryStaysFlat(t *testing.T) {
	spool := mail.NewSpool(t.TempDir(), 64<<10)
	defer func() { _ = spool.Close() }()
	if _, err := spool.Write([]byte(large(t))); err != nil {
		t.Fatal(err)
	}
	m, err := spool.Message()
	if err != nil {
		t.Fatal(err)
	}
	tx := newTransaction(t, "")
	tx.Message = m
	a := newHandler(t, nil)
	before, after := new(runtime.MemStats), new(runtime.MemStats)
	runtime.ReadMemStats(before)
	got, err := a.Handle(t.Context(), tx)
	runtime.ReadMemStats(after)
	if err != nil || !strings.Contains(got.Reason, "zip archives: 1, entries in them: 1") {
		t.Fatalf("verdict %+v, %v", got, err)
	}
	if used := after.TotalAlloc - before.TotalAlloc; used > 1<<20 {
		t.Errorf("a message of %d bytes allocates %d", m.Size, used)
	}
}

// FuzzWalk holds the walk to a number of reads that grows with the message only.
func FuzzWalk(f *testing.F) {
	for _, test := range corpus(f) {
		if len(test.raw) < 50_000 {
			f.Add(test.raw)
		}
	}
	f.Add(message("Content-Type: multipart/mixed; boundary=\"--\"\r\n\r\n----\r\n------\r\n"))
	f.Add(message("Content-Disposition: x; filename=\"" + strings.Repeat("=?x?B?y", 50) + "\"\r\n\r\n"))
	a := newHandler(f, func(a *Attachments) {
		a.Types, a.MaxUnpacked, a.MaxParts, a.TooComplex = []string{typeISO, typeMacros}, 1<<20, 100, "tag"
	})
	f.Fuzz(func(t *testing.T, raw string) {
		m, err := mail.NewMessage([]byte(raw))
		if err != nil {
			return
		}
		tx := newTransaction(t, "")
		tx.Message = m
		calls := 0
		x := &examination{Attachments: a, budget: newBudget(m.Size, func() error { calls++; return nil })}
		if err := x.examine(m); err != nil && !errors.Is(err, errEnough) {
			t.Fatal(err)
		}
		// A call is a line buffer, a block, a part or an entry.
		if most := 20_000 + len(raw); calls > most {
			t.Errorf("%d calls for %d bytes", calls, len(raw))
		}
		v := x.verdict(tx)
		if v.Reason == "" || v.Reason != mail.Printable(v.Reason, 512) || v.Reply.Text != ascii(v.Reply.Text) {
			t.Errorf("verdict %+v", v)
		}
	})
}

func BenchmarkHandle(b *testing.B) {
	var many []packed
	for i := range 2000 {
		many = append(many, packed{name: fmt.Sprint(i), content: []byte(strings.Repeat(fmt.Sprint(i), 1000))})
	}
	random := rand.New(rand.NewPCG(1, 2))
	picture := make([]byte, 70_000)
	for i := range picture {
		picture[i] = byte(random.Uint32())
	}
	for name, raw := range map[string]string{
		"4KB text":       message("Content-Type: text/plain\r\n\r\n" + strings.Repeat("Some words of a letter.\r\n", 160)),
		"100KB file":     message(mixed("x", text, filePart("a.jpeg", picture))),
		"25MB zip":       large(b),
		"2000 entries":   message(mixed("x", filePart("a.zip", zipped(b, many...)))),
		"bomb":           message(mixed("x", filePart("a.zip", bomb(b, 2, 5)))),
		"many parts":     message("Content-Type: multipart/mixed; boundary=x\r\n\r\n" + strings.Repeat("--x\r\n\r\n", 900)),
		"25MB of dashes": message(nested(25, "\r\n"+strings.Repeat("--\r\n", 6<<20))),
		"60KB of words":  message(mixed("x", "Content-Disposition: x; filename=\""+strings.Repeat("=?x?B?y", 8500)+"\"\r\n\r\n")),
		"60KB of names":  message(mixed("x", "Content-Disposition: x"+strings.Repeat("; filename=abcdefghijklmnopq", 2000)+"\r\n\r\n")),
	} {
		b.Run(name, func(b *testing.B) {
			a := newHandler(b, nil)
			b.SetBytes(int64(len(raw)))
			b.ReportAllocs()
			tx := newTransaction(b, raw)
			for b.Loop() {
				if _, err := a.Handle(b.Context(), tx); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
