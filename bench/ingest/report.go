package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
)

// key names what is measured several times.
type key struct {
	server string
	load   load
}

// median of one figure over the rounds.
func median(rs []result, figure func(result) float64) float64 {
	if len(rs) == 0 {
		return 0
	}
	values := sorted(rs, figure)
	middle := len(values) / 2
	if len(values)%2 == 1 {
		return values[middle]
	}
	return (values[middle-1] + values[middle]) / 2
}

func sorted(rs []result, figure func(result) float64) []float64 {
	values := make([]float64, len(rs))
	for i, r := range rs {
		values[i] = figure(r)
	}
	slices.Sort(values)
	return values
}

func rate(r result) float64      { return r.rate }
func delivered(r result) float64 { return r.delivered }
func cpu(r result) float64       { return r.cpu }
func memoryOf(r result) float64  { return r.memory }

// report prints the medians as a Markdown table.
func report(w io.Writer, o *options, results map[key][]result) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %d processors, file system %s, medians of %d rounds of about %s.\n\n",
		kernel(), runtime.NumCPU(), fileSystem(o.dir), o.rounds, o.duration)
	beside := [2]string{"postfix", "smtp-sink"}
	if o.inbound {
		beside = [2]string{"filtered", "rspamd"}
	}
	fmt.Fprintf(&b, "| size | connection | c | server | messages/s | least to most | stored/s | of %s | of %s | CPU s per 1000 | peak MB |\n", beside[0], beside[1])
	b.WriteString("|---:|---|---:|---|---:|---|---:|---:|---:|---:|---:|\n")
	for _, l := range o.loads() {
		for _, name := range o.servers {
			rs := results[key{name, l}]
			all := sorted(rs, rate)
			stored := fmt.Sprintf("%.0f", median(rs, delivered))
			if name == "smtp-sink" {
				stored = "–"
			}
			fmt.Fprintf(&b, "| %d | %s | %d | %s | %.0f | %.0f to %.0f | %s | %s | %s | %.2f | %.0f |\n",
				l.size, l.connection(), l.sessions, name, median(rs, rate), all[0], all[len(all)-1], stored,
				ratio(rs, results[key{beside[0], l}]), ratio(rs, results[key{beside[1], l}]),
				median(rs, cpu), median(rs, memoryOf))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// ratio compares the rates of two servers.
func ratio(of, to []result) string {
	if len(to) == 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f", median(of, rate)/median(to, rate))
}

func kernel() string {
	text, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return runtime.GOOS
	}
	return "Linux " + strings.TrimSpace(string(text))
}

// fileSystem names the kind of file system of a directory. On tmpfs nothing is
// durable, and the figures say nothing.
func fileSystem(dir string) string {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return "unknown"
	}
	known := map[int64]string{0xef53: "ext4", 0x58465342: "xfs", 0x9123683e: "btrfs", 0x794c7630: "overlay", 0x01021994: "tmpfs (nothing is durable here)"}
	if name, ok := known[s.Type]; ok {
		return name
	}
	return fmt.Sprintf("%#x", s.Type)
}
