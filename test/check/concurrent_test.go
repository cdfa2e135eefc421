package check_test

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/mox-like/mox-like/core/tuning"
)

// TestWhileSettingsChange tries messages while domains are tuned and the
// configuration is reloaded: each check has one of the settings, and none is in the
// way of the others.
func TestWhileSettingsChange(t *testing.T) {
	t.Parallel()
	s := serve(t)
	ctx, cancel := context.WithCancel(t.Context())
	var others sync.WaitGroup
	others.Go(func() {
		for n := 0; ctx.Err() == nil; n++ {
			value := strconv.Quote(strconv.Itoa(n%50+1) + "m")
			change := []tuning.Change{{Key: tuning.Key{Handler: "greylist", Attribute: "delay"}, Value: &value}}
			if _, err := s.ops.ChangeDomain(ctx, "example.test", change, ""); err != nil && ctx.Err() == nil {
				t.Errorf("change settings: %v", err)
			}
		}
	})
	others.Go(func() {
		for ctx.Err() == nil {
			if _, _, err := s.Reload(ctx); err != nil && ctx.Err() == nil {
				t.Errorf("reload: %v", err)
			}
		}
	})
	var checks sync.WaitGroup
	for range 4 {
		checks.Go(func() {
			for range 5 {
				result, _, err := s.ops.Check(t.Context(), request(ip("192.0.2.200")), strings.NewReader(message))
				if err != nil {
					t.Errorf("check: %v", err)
					continue
				}
				if last := result.Replies[len(result.Replies)-1].Reply; !strings.HasPrefix(last, "451 4.7.1 Greylisted") {
					t.Errorf("reply: %s", last)
				}
			}
		})
	}
	checks.Wait()
	cancel()
	others.Wait()
}
