//go:build !linux

package postgres

import (
	"os/exec"
	"syscall"
)

// spawn starts cmd; the channel gives the result of its Wait. There is no signal on the parent's death here: a server
// left behind is ended at the next start.
func spawn(cmd *exec.Cmd, who account) (<-chan error, error) {
	attr := &syscall.SysProcAttr{Setpgid: true}
	if who.switched {
		if who.needsPass {
			return nil, notTraversable(nil)
		}
		attr.Credential = &syscall.Credential{Uid: who.uid, Gid: who.gid}
	}
	cmd.SysProcAttr = attr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	return done, nil
}
