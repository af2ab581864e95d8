package postgres

import (
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// secureNoSetuidFixup is SECBIT_NO_SETUID_FIXUP: without it the kernel takes the capabilities away when the child becomes
// another user, and access(2), by which PostgreSQL looks for its own programs, would not honour them.
const secureNoSetuidFixup = 1 << 2

// spawn starts cmd on a thread of its own and returns once it runs; the channel gives the result of its Wait. The thread
// lives as long as the child, because the child is killed when the thread that forked it ends.
func spawn(cmd *exec.Cmd, who account) (<-chan error, error) {
	started, done := make(chan error), make(chan error, 1)
	go func() {
		// Never unlocked: the thread ends with this goroutine, and its securebits with it.
		runtime.LockOSThread()
		attr := &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGINT}
		if who.switched {
			attr.Credential = &syscall.Credential{Uid: who.uid, Gid: who.gid}
		}
		if who.switched && who.needsPass {
			capability, err := passCapability()
			if err == nil {
				err = unix.Prctl(unix.PR_SET_SECUREBITS, secureNoSetuidFixup, 0, 0, 0)
			}
			if err != nil {
				started <- notTraversable(err)
				return
			}
			attr.AmbientCaps = []uintptr{capability}
		}
		cmd.SysProcAttr = attr
		err := cmd.Start()
		started <- err
		if err == nil {
			done <- cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return done, nil
}

// passCapability is the weakest capability we hold that lets the child through closed folders.
func passCapability() (uintptr, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return 0, err
	}
	for _, capability := range []uintptr{unix.CAP_DAC_READ_SEARCH, unix.CAP_DAC_OVERRIDE} {
		if data[0].Permitted&(1<<capability) != 0 {
			return capability, nil
		}
	}
	return 0, unix.EPERM
}
