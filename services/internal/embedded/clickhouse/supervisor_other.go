//go:build !linux

package clickhouse

import "syscall"

// childAttributes are the defaults: the library exists for linux only, so no child is ever started elsewhere.
func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{} }
