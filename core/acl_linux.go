package core

import "syscall"

// hasACL tells whether a file has an access control list, by which more may be allowed
// than its mode says.
func hasACL(name string) bool {
	n, err := syscall.Getxattr(name, "system.posix_acl_access", nil)
	return err == nil && n > 0
}
