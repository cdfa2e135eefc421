package dns_test

import (
	"testing"

	"github.com/mox-like/mox-like/core/dns"
	"github.com/mox-like/mox-like/core/dns/dnstest"
)

// TestForget: what is forgotten is asked again, and nothing else.
func TestForget(t *testing.T) {
	t.Parallel()
	s := dnstest.Serve(t, "a.test. TXT old\nb.test. TXT old\n")
	r := s.Resolver(t)
	look := func(name string) string {
		t.Helper()
		texts, err := r.LookupTXT(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		return texts[0]
	}
	look("a.test")
	look("b.test")
	s.Set("a.test. TXT new\nb.test. TXT new\n")
	r.Forget("A.TEST.", dns.TypeTXT)
	r.Forget("a b..", dns.TypeTXT)
	for name, want := range map[string]string{"a.test": "new", "b.test": "old"} {
		if got := look(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}
