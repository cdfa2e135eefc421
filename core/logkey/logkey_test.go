package logkey_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/core/logkey"
)

// A changed key is a breaking change: this list is what readers of the log rely
// on.
func TestKeys(t *testing.T) {
	t.Parallel()
	want := []string{
		"msg_id", "session_id", "listener", "domain", "address", "remote_ip", "helo", "user", "mechanism", "reverse_path", "recipient", "size",
		"command", "stage", "handler", "verdict", "on_error", "on_timeout", "reply_code", "reply", "reason", "duration", "error", "stack",
	}
	got := []string{
		logkey.Message, logkey.Session, logkey.Listener, logkey.Domain, logkey.Address, logkey.RemoteIP, logkey.Helo, logkey.User, logkey.Mechanism,
		logkey.ReversePath, logkey.Recipient, logkey.Size, logkey.Command, logkey.Stage, logkey.Handler, logkey.Verdict, logkey.OnError, logkey.OnTimeout,
		logkey.ReplyCode, logkey.Reply, logkey.Reason, logkey.Duration, logkey.Error, logkey.Stack,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
}
