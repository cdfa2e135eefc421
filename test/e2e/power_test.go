package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/mox-like/mox-like/test/daemon"
)

const powerRounds = 12

// disk is an ext4 file system in a file, which can lose its power.
type disk struct {
	image, dir string
}

// newDisk makes a file system and mounts it on the site's data directory.
func (s *site) newDisk(t *testing.T) *disk {
	t.Helper()
	d := &disk{image: filepath.Join(s.dir, "disk"), dir: s.data}
	if err := os.WriteFile(d.image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	const size = 256 << 20
	if err := os.Truncate(d.image, size); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(d.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if r := run(t, command(t, daemon.Program(t, "mkfs.ext4"), "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", d.image)); r.code != 0 {
		t.Fatalf("make file system: %s", r.stderr)
	}
	d.mount(t)
	t.Cleanup(func() { _ = syscall.Unmount(d.dir, syscall.MNT_DETACH) }) // unless it is done already
	return d
}

func (d *disk) mount(t *testing.T) {
	t.Helper()
	r := run(t, command(t, daemon.Program(t, "mount"), "-o", "loop,nosuid,nodev", d.image, d.dir))
	if r.code != 0 {
		t.Fatalf("mount %s: %s\nthis test needs root and loop devices, in a container with CAP_SYS_ADMIN and /dev/loop-control", d.image, r.stderr)
	}
}

// cutPower ends the server, and keeps of the disk what was on it at that moment:
// what the kernel has not written to it yet is lost.
func (d *disk) cutPower(t *testing.T, p *process) {
	t.Helper()
	// A process that is stopped acknowledges nothing. What it has asked the disk
	// for before is done soon, and long before the kernel writes by itself.
	p.signal(t, syscall.SIGSTOP)
	<-time.After(20 * time.Millisecond)
	r := run(t, command(t, daemon.Program(t, "cp"), "--sparse=always", d.image, d.image+".lost"))
	if r.code != 0 {
		t.Fatalf("copy disk: %s", r.stderr)
	}
	p.kill()
}

// restore gives the disk its power back: its journal is replayed.
func (d *disk) restore(t *testing.T) {
	t.Helper()
	eventually(t, "the file system is unmounted", func() bool {
		err := syscall.Unmount(d.dir, 0)
		if err != nil && !errors.Is(err, syscall.EBUSY) {
			t.Fatalf("unmount: %v", err)
		}
		return err == nil
	})
	if err := os.Rename(d.image+".lost", d.image); err != nil {
		t.Fatal(err)
	}
	d.mount(t)
}

// TestPowerFailure cuts the power of the disk again and again while clients send
// and one appends by IMAP. Unlike a crash of the process, this loses all that was
// written and not made durable. What was acknowledged must all be there in the
// end.
func TestPowerFailure(t *testing.T) {
	t.Parallel()
	site := newSite(t, settings{})
	d := site.newDisk(t)
	site.serve(t, alice, bob, carol).stop(t)
	l := newLedger(t)
	began := time.Now()
	for range powerRounds {
		p := site.start(t)
		p.underLoad(t, l, func() { d.cutPower(t, p) })
		d.restore(t)
	}
	t.Logf("%d rounds in %v", powerRounds, time.Since(began).Round(time.Millisecond))

	p := site.start(t)
	l.check(t, p)
	l.checkFiles(t, p)
	p.stop(t)
	checkDatabase(t, filepath.Join(site.data, "mox-like.db"))
}
