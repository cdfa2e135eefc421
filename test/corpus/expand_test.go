package corpus_test

import (
	"archive/zip"
	"bytes"
	"encoding/base64"
	"io"
	"regexp"
	"strings"
	"testing"

	"github.com/mox-like/mox-like/test/daemon"
)

// placeholder stands in a message for what a virus scanner or a spam filter on the
// way of this source would find: {{eicar}}, {{base64 zip eicar}}.
var placeholder = regexp.MustCompile(`\{\{([a-z0-9 -]+)\}\}`)

// expand fills in the placeholders.
func expand(tb testing.TB, text []byte) []byte {
	tb.Helper()
	return placeholder.ReplaceAllFunc(text, func(match []byte) []byte {
		words := strings.Fields(strings.Trim(string(match), "{}"))
		content := contents(tb, words[len(words)-1])
		for i := len(words) - 2; i >= 0; i-- {
			switch words[i] {
			case "base64":
				content = lines(base64.StdEncoding.EncodeToString(content))
			case "zip":
				content = zipped(tb, "inner.zip", content)
			default:
				tb.Fatalf("%s: there is no way %q to pack", match, words[i])
			}
		}
		return content
	})
}

// contents gives what a placeholder's last word stands for.
func contents(tb testing.TB, word string) []byte {
	tb.Helper()
	switch word {
	case "eicar":
		return []byte(daemon.EICAR)
	case "gtube":
		return []byte(daemon.GTUBE)
	case "zip-exe":
		return zipped(tb, "setup.exe", []byte("MZ this is no program"))
	case "zip-bomb":
		return zipped(tb, "zeros.bin", make([]byte, 20<<20))
	case "zip-encrypted":
		archive := zipped(tb, "secret.txt", []byte("secret"))
		// The flag of encryption, in the file's own header and in the directory.
		archive[6] |= 1
		archive[bytes.Index(archive, []byte("PK\x01\x02"))+8] |= 1
		return archive
	default:
		tb.Fatalf("there is no content %q", word)
		return nil
	}
}

// zipped gives an archive with one file.
func zipped(tb testing.TB, name string, content []byte) []byte {
	tb.Helper()
	var b bytes.Buffer
	archive := zip.NewWriter(&b)
	w, err := archive.Create(name)
	if err == nil {
		_, err = io.Copy(w, bytes.NewReader(content))
	}
	if err == nil {
		err = archive.Close()
	}
	if err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// lines folds a text as Base64 in mail is.
func lines(text string) []byte {
	var b bytes.Buffer
	for len(text) > 76 {
		b.WriteString(text[:76] + "\r\n")
		text = text[76:]
	}
	b.WriteString(text)
	return b.Bytes()
}
