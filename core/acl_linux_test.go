package core

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestCheckReadableWithACL: where a list may allow it, nothing is told.
func TestCheckReadableWithACL(t *testing.T) {
	t.Parallel()
	path := filepath.Join("/tmp", filepath.Base(t.TempDir())+".acl") // which others can search
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(path) })
	user := &SystemUser{Name: "other", UID: os.Getuid() + 4711, GID: os.Getgid() + 4711}
	if err := user.CheckReadable(path); err == nil {
		t.Error("a file of mode 0600 can be read by another user")
	}
	// Version 2; the owner, user 4711, the group, the mask, others: tag, permissions, ID.
	list := []byte{
		2, 0, 0, 0,
		1, 0, 6, 0, 0xff, 0xff, 0xff, 0xff,
		2, 0, 4, 0, 0x67, 0x12, 0, 0,
		4, 0, 0, 0, 0xff, 0xff, 0xff, 0xff,
		0x10, 0, 4, 0, 0xff, 0xff, 0xff, 0xff,
		0x20, 0, 0, 0, 0xff, 0xff, 0xff, 0xff,
	}
	switch err := syscall.Setxattr(path, "system.posix_acl_access", list, 0); {
	case errors.Is(err, syscall.ENOTSUP):
		return // the file system has none
	case err != nil:
		t.Fatal(err)
	}
	if err := user.CheckReadable(path); err != nil {
		t.Errorf("with an access control list: %v", err)
	}
}
