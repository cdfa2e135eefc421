package main

import (
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mox-like/mox-like/bench/proc"
)

func TestParse(t *testing.T) {
	t.Parallel()
	o, err := parse([]string{"--sizes", "100", "--sessions", "1,2", "--connections", "reuse,new"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	want := []load{{100, 1, true}, {100, 2, true}, {100, 1, false}, {100, 2, false}}
	if diff := cmp.Diff(want, o.loads(), cmp.AllowUnexported(load{})); diff != "" {
		t.Errorf("loads (-want +got):\n%s", diff)
	}
	if o, err = parse([]string{"--inbound"}, io.Discard); err != nil || strings.Join(o.servers, ",") != inboundServers {
		t.Errorf("servers %q, %v", o.servers, err)
	}
	for _, args := range []string{"--servers exim", "--servers filtered", "--inbound --servers postfix", "--sizes 0", "--sizes 4K", "--rounds 0", "--connections old", "--duration 0s", "more"} {
		if _, err := parse(strings.Fields(args), io.Discard); err == nil {
			t.Errorf("%q is taken", args)
		}
	}
}

func TestMessagesStayWithinLimits(t *testing.T) {
	t.Parallel()
	tests := []struct {
		load load
		rate float64
		want int
	}{
		{load{4096, 1, true}, 1000, 3000},
		{load{4096, 1, true}, 1e6, 60_000},
		{load{4096, 1, false}, 1e6, 15_000},
		{load{1 << 20, 1, true}, 1e6, 1024},
		{load{4096, 1, true}, 1, 100},
		{load{4096, 500, true}, 1, 500},
	}
	for _, test := range tests {
		if got := messages(test.load, test.rate, 3*time.Second); got != test.want {
			t.Errorf("%s at %.0f/s: %d messages, want %d", test.load, test.rate, got, test.want)
		}
	}
}

func TestMedian(t *testing.T) {
	t.Parallel()
	rounds := []result{{rate: 3}, {rate: 100}, {rate: 1}, {rate: 4}}
	if got := median(rounds[:3], rate); got != 3 {
		t.Errorf("median of three is %v", got)
	}
	if got := median(rounds, rate); got != 3.5 {
		t.Errorf("median of four is %v", got)
	}
	if got := ratio(rounds[:1], nil); got != "–" {
		t.Errorf("ratio to nothing is %q", got)
	}
}

// TestProcessesOfATree has a shell whose child works and ends: its time counts
// with the shell that waited for it.
func TestProcessesOfATree(t *testing.T) {
	t.Parallel()
	shell := exec.Command("sh", "-c", "i=0; (while [ $i -lt 300000 ]; do i=$((i+1)); done); echo; cat; :")
	stdin, err := shell.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := shell.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := shell.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		stdin.Close()
		if err := shell.Wait(); err != nil {
			t.Error(err)
		}
	}()
	if _, err := stdout.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	used, err := proc.Time(shell.Process.Pid)
	if err != nil || used < 20*time.Millisecond || used > time.Minute {
		t.Errorf("processor time %s, %v", used, err)
	}
	mb, err := memory([]int{shell.Process.Pid})
	if err != nil || mb <= 0 || mb > 100 {
		t.Errorf("memory %.1f MB, %v", mb, err)
	}
	if all, err := proc.Family(os.Getpid()); err != nil || len(all) < 2 {
		t.Errorf("this test and its shell are %d processes, %v", len(all), err)
	}
}
