package core_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/mox-like/mox-like/core"
	"github.com/mox-like/mox-like/core/store"
	"github.com/mox-like/mox-like/core/tuning"
)

const many = 10_000

// manyDomains are so many domains behind one listener.
func manyDomains() string {
	var text strings.Builder
	text.WriteString(head + `
listener "liner" "in" {
  address = "127.0.0.1:0"
  chain {
    probe "one" { text = "first" }
    probe "two" {}
    sink {}
  }
}
`)
	for i := range many {
		fmt.Fprintf(&text, "domain \"d%d.test\" {}\n", i)
	}
	return text.String()
}

// tuneMany sets something for each of the domains, in the database of a server that
// does not run.
func tuneMany(t testing.TB, o core.Options, value func(i int) string) {
	t.Helper()
	st, err := store.Open(t.Context(), o.DataDir, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	table, err := tuning.Open(t.Context(), st, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	for part := range 50 {
		go func() {
			var err error
			for i := part; i < many && err == nil; i += 50 {
				err = table.Apply(context.Background(), request(fmt.Sprintf("d%d.test", i), "one.text", value(i)))
			}
			done <- err
		}()
	}
	for range 50 {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestTuningOfManyDomains(t *testing.T) {
	t.Parallel()
	j := new(journal)
	o := options(t, file(t, manyDomains()), newRegistry(j))
	tuneMany(t, o, func(i int) string { return fmt.Sprintf(`"v%d"`, i%3) })
	s := start(t, o)
	made := 0
	for _, line := range j.take() {
		if line == "start one" {
			made++
		}
	}
	if made != 4 {
		t.Errorf("%d instances for three settings and the listener", made)
	}
	c := dial(t, s.Addresses("in")[0])
	for i := range 9 {
		if got, want := c.ask(fmt.Sprintf("a@d%d.test", i)), fmt.Sprintf("one=v%d;two=plain;sink=;", i%3); got != want {
			t.Errorf("d%d: %s, want %s", i, got, want)
		}
	}
	tune(t, s, "d5.test", "one.text", `"mine"`)
	tune(t, s, "*", "two.text", `"all"`)
	for i, want := range map[int]string{4: "one=v1;two=all;sink=;", 5: "one=mine;two=all;sink=;"} {
		if got := c.ask(fmt.Sprintf("a@d%d.test", i)); got != want {
			t.Errorf("d%d: %s, want %s", i, got, want)
		}
	}
}

// How long a change takes until it is in force, with so many domains that are
// tuned already: alike, or each in its own way.
func BenchmarkTuningChange(b *testing.B) {
	for name, value := range map[string]func(int) string{
		"none":      nil,
		"alike":     func(int) string { return `"x"` },
		"different": func(i int) string { return fmt.Sprintf(`"v%d"`, i) },
	} {
		for _, domain := range []string{"d7.test", "*"} {
			b.Run(fmt.Sprintf("tuned=%s/of=%s", name, domain), func(b *testing.B) {
				o := options(b, file(b, manyDomains()), newRegistry(new(journal)))
				if value != nil {
					tuneMany(b, o, value)
				}
				s := start(b, o)
				i := 0
				b.ResetTimer()
				for b.Loop() {
					tune(b, s, domain, "two.text", fmt.Sprintf(`"v%d"`, i))
					i++
				}
			})
		}
	}
}

// How long a start takes with so many domains that are tuned, and how much memory
// they take.
func BenchmarkTuningStart(b *testing.B) {
	for name, value := range map[string]func(int) string{
		"none":      nil,
		"alike":     func(int) string { return `"x"` },
		"different": func(i int) string { return fmt.Sprintf(`"v%d"`, i) },
	} {
		b.Run("tuned="+name, func(b *testing.B) {
			o := options(b, file(b, manyDomains()), newRegistry(new(journal)))
			o.Logger = zap.NewNop()
			if value != nil {
				tuneMany(b, o, value)
			}
			var heap uint64
			for b.Loop() {
				s := core.NewServer(o)
				if ds, _, err := s.Start(b.Context()); err != nil {
					b.Fatal(err, ds.Err())
				}
				b.StopTimer()
				runtime.GC()
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				heap = m.HeapAlloc
				stop(b, s)
				b.StartTimer()
			}
			b.ReportMetric(float64(heap)/1e6, "MB")
		})
	}
}
