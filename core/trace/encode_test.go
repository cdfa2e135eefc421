package trace

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core/mail"
)

func sample() *Record {
	return &Record{
		ID: "06f3k2m9qabcdefgh1", Session: "06f3k2m9p123456789", Kind: KindMessage, Time: time.UnixMicro(1), Duration: time.Second,
		Protocol: "smtp", Listener: "mx", RemoteIP: "192.0.2.1", Helo: "client.example.org",
		ReversePath: "alice@example.org", Recipients: []string{"bob@example.test"}, MessageID: "<1234567890@example.org>", Size: 4096,
		Outcome: Outcome{Action: "accept"},
		Entries: []mail.Entry{
			{Stage: mail.StageMail, Handler: "spf", Position: "/etc/mox-like/config.hcl:12", Reason: "pass", Duration: 20 * time.Millisecond},
			{Stage: mail.StageRcpt, Handler: "greylist", Position: "/etc/mox-like/config.hcl:13", Recipient: "bob@example.test", Reason: "known", Duration: 35},
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
		if err := decode(data, &r); err != nil {
			return
		}
		encoded := encode(&r)
		if err := decode(encoded, &again); err != nil {
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
		if err := decode(whole[:n], new(Record)); err == nil {
			t.Errorf("the first %d of %d bytes: no error", n, len(whole))
		}
	}
	if err := decode(append(whole, 0), new(Record)); err == nil {
		t.Error("one byte more: no error")
	}
	newer := bytes.Clone(whole)
	newer[0]++
	if err := decode(newer, new(Record)); err == nil {
		t.Error("newer format: no error")
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
