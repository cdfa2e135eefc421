package trace

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core/mail"
)

// settings are those of a handler with one attribute.
func settings(value string) *mail.Settings {
	return mail.NewSettings(func() []mail.Setting { return []mail.Setting{{Attribute: "delay", Value: value, Source: "handler"}} })
}

func sample() *Record {
	return &Record{
		ID: "06f3k2m9qabcdefgh1", Session: "06f3k2m9p123456789", Kind: KindMessage, Time: time.UnixMicro(1), Duration: time.Second,
		Protocol: "smtp", Listener: "mx", RemoteIP: "192.0.2.1", Helo: "client.example.org",
		ReversePath: "alice@example.org", Recipients: []string{"bob@example.test"}, MessageID: "<1234567890@example.org>", Size: 4096,
		Outcome: Outcome{Action: "accept"},
		Entries: []mail.Entry{
			{Stage: mail.StageMail, Handler: "spf", Position: "/etc/mox-like/config.hcl:12", Reason: "pass", Duration: 20 * time.Millisecond, Settings: settings("1")},
			{Stage: mail.StageRcpt, Handler: "greylist", Position: "/etc/mox-like/config.hcl:13", Recipient: "bob@example.test", Reason: "known", Duration: 35, Settings: settings("2")},
			{Stage: mail.StageData, Handler: "deliver", Position: "/etc/mox-like/config.hcl:14", Action: mail.ActionAccept, Reply: mail.NewReply(250, 0, 0, "x")},
		},
	}
}

// FuzzDecode feeds damaged records. They are an error or a record that encodes to
// itself, and never take more memory than they have bytes for.
func FuzzDecode(f *testing.F) {
	whole := encode(sample())
	f.Add(whole)
	f.Add(whole[:len(whole)/2])
	f.Add(encode(&Record{}))
	f.Add([]byte{format})
	f.Add(append([]byte{format, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f}, whole...))
	f.Fuzz(func(t *testing.T, data []byte) {
		var r, again Record
		if err := decode(data, &r, interned{}); err != nil {
			return
		}
		encoded := encode(&r)
		if err := decode(encoded, &again, interned{}); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(encode(&again), encoded) {
			t.Errorf("record changed (-want +got):\n%s", cmp.Diff(r, again))
		}
	})
}

func TestDecodeEveryPrefix(t *testing.T) {
	t.Parallel()
	whole := encode(sample())
	for n := range whole {
		if err := decode(whole[:n], new(Record), interned{}); err == nil {
			t.Errorf("the first %d of %d bytes: no error", n, len(whole))
		}
	}
	if err := decode(append(whole, 0), new(Record), interned{}); err == nil {
		t.Error("one byte more: no error")
	}
	newer := bytes.Clone(whole)
	newer[0]++
	if err := decode(newer, new(Record), interned{}); err == nil {
		t.Error("newer format: no error")
	}
}

// TestDecodeFormat1 reads a record that a build before settings has written.
func TestDecodeFormat1(t *testing.T) {
	t.Parallel()
	data, err := base64.StdEncoding.DecodeString("AYCJeoBAEjA2ZjNrMm05cDEyMzQ1Njc4OQRzbXRwAm14CTE5Mi4wLjIuMRJjbGllbnQuZXhhbXBsZS5vcmcAEWFsaWNlQGV4YW1w" +
		"bGUub3JnGDwxMjM0NTY3ODkwQGV4YW1wbGUub3JnPgZhY2NlcHQAAAACEGJvYkBleGFtcGxlLnRlc3QGAwDAuAIAAAAAA3NwZhsv" +
		"ZXRjL21veC1saWtlL2NvbmZpZy5oY2w6MTIABHBhc3MAAAQAAAAAAAAIZ3JleWxpc3QbL2V0Yy9tb3gtbGlrZS9jb25maWcuaGNs" +
		"OjEzEGJvYkBleGFtcGxlLnRlc3QFa25vd24AAAUBAPQDBAAAB2RlbGl2ZXIbL2V0Yy9tb3gtbGlrZS9jb25maWcuaGNsOjE0AAAA" +
		"AXg=")
	if err != nil {
		t.Fatal(err)
	}
	got := new(Record)
	if err := decode(data, got, interned{}); err != nil {
		t.Fatal(err)
	}
	want := sample()
	got.ID, got.Kind, got.Time = want.ID, want.Kind, want.Time // columns of their own
	want.Entries[1].Duration = 0                               // microseconds are kept
	for i := range want.Entries {
		want.Entries[i].Settings = nil
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("record (-want +got):\n%s", diff)
	}
	data[bytes.Index(data, []byte("spf"))-9] = byte(mail.ActionQuarantine) // what it said
	got = new(Record)
	var s sketch
	if err := errors.Join(decode(data, got, interned{}), s.read(data)); err != nil {
		t.Fatal(err)
	}
	if want := (Outcome{Action: "quarantine", Handler: "spf"}); got.Outcome != want || s.decision() != want.Action {
		t.Errorf("outcome of what was quarantined %+v, to statistics %s; want %+v", got.Outcome, s.decision(), want)
	}
}

func BenchmarkEncode(b *testing.B) {
	r := sample()
	b.Run("binary", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			encode(r)
		}
		b.ReportMetric(float64(len(encode(r))), "bytes")
	})
	b.Run("json", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := json.Marshal(r); err != nil {
				b.Fatal(err)
			}
		}
		data, err := json.Marshal(r)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(len(data)), "bytes")
	})
}
