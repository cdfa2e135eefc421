package config_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core/config"
)

func TestProblems(t *testing.T) {
	t.Parallel()
	b := parse(t, `listener "smtp" {
  address = "a"
  tls {
    cert = "c"
  }
  rule {}
  rule {
    key = "k"
  }
  ports = [25, 26]
  names = { a = 1, "b@c" = 2 }
}
`).Root.Blocks()[0]
	var ps config.Problems
	ps.Errorf("", "the whole %s", "block")
	ps.Warnf("address", "an attribute")
	ps.Errorf("tls", "a block")
	ps.Errorf("tls.cert", "an attribute of a block")
	ps.Errorf("rule[1].key", "of the second block")
	ps.Errorf("rule[1].other", "what the second block does not have")
	ps.Errorf("none.at.all", "what is not there")
	ps.Errorf("rule[x]", "a wrong index")
	ps.Errorf("rule[9]", "a block that is not there")
	ps.Errorf("ports[1]", "the second value")
	ps.Errorf("ports[2]", "a value that is not there")
	ps.Errorf("address[0]", "the one value")
	ps = append(ps, config.Problem{Code: "own/code", Message: "a code of its own", Detail: "Do it."})
	want := strings.Join([]string{
		`1:1-1:16 error module/problem: the whole block`,
		`2:13-2:16 warning module/problem: an attribute`,
		`3:3-3:6 error module/problem: a block`,
		`4:12-4:15 error module/problem: an attribute of a block`,
		`8:11-8:14 error module/problem: of the second block`,
		`7:3-7:7 error module/problem: what the second block does not have`,
		`1:1-1:16 error module/problem: what is not there`,
		`6:3-6:7 error module/problem: a wrong index`,
		`1:1-1:16 error module/problem: a block that is not there`,
		`10:16-10:18 error module/problem: the second value`,
		`10:11-10:19 error module/problem: a value that is not there`,
		`2:13-2:16 error module/problem: the one value`,
		`1:1-1:16 error own/code: a code of its own | Do it.`,
	}, "\n")
	if diff := cmp.Diff(want, list(ps.Diagnostics(b, "module/problem"))); diff != "" {
		t.Errorf("diagnostics (-want +got):\n%s", diff)
	}
	for key, want := range map[string]int{"b@c": 20, "none": 11} {
		if at := b.KeyPlace("names", key); at.Start.Line != 11 || at.Start.Column != want {
			t.Errorf("key %q is at %v", key, at)
		}
	}
}

func TestSuggest(t *testing.T) {
	t.Parallel()
	names := []string{"hostname", "host", "data_dir", "listener", "log", "tls", "key", "ip"}
	for name, want := range map[string]string{
		"hostnam": "hostname", "hotsname": "hostname", "Hostname": "hostname", "data-dir": "data_dir", "datadir": "data_dir",
		"lisener": "listener", "lgo": "log", "tsl": "tls", "ips": "ip", "hosts": "host",
		"user": "", "": "", "xyz": "", "sieve_dir": "", strings.Repeat("host", 100): "",
	} {
		if got := config.Suggest(name, names); got != want {
			t.Errorf("%q: suggested %q, want %q", name, got, want)
		}
	}
	if got := config.Suggest("x", nil); got != "" {
		t.Errorf("without candidates: %q", got)
	}
}

func TestDiagnostics(t *testing.T) {
	t.Parallel()
	r := parse(t, "a {}\nb {}\n").Root.Blocks()
	var ds config.Diagnostics
	ds.Warnf(r[1].DefRange, "b/warning", "second")
	ds.Errorf(r[0].DefRange, "a/error", "first")
	ds.Sort()
	if got := list(ds); got != "1:1-1:2 error a/error: first\n2:1-2:2 warning b/warning: second" {
		t.Errorf("sorted:\n%s", got)
	}
	if errors, warnings := ds.Count(); errors != 1 || warnings != 1 || !ds.HasErrors() || ds[1:].HasErrors() {
		t.Errorf("%d errors, %d warnings", errors, warnings)
	}
	if err := ds.Err(); err == nil || err.Error() != "test.hcl:1:1: error: first [a/error]" {
		t.Errorf("error: %v", err)
	}
	if err := ds[1:].Err(); !errors.Is(err, nil) {
		t.Errorf("error of a warning: %v", err)
	}
}
