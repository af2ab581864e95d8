package clickhouse

import "syscall"

// childAttributes put the child into its own process group, so that Ctrl-C reaches the parent alone, and let the kernel
// kill it when the thread that started it ends with the parent.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
