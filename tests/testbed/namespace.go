package testbed

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
)

// insideEnv tells a test process that it runs in a network namespace of its own.
const insideEnv = "SLUICE_TEST_NAMESPACE"

// InNamespace runs a whole package of tests in a network namespace of its own: all that is started there, and only that,
// reaches what listens there, even on every interface. It is called first in TestMain: prepare fetches what the tests
// need, which they cannot do inside; then this process only waits for one of its kind inside. The namespace goes with its
// last process. Where none can be made the package is skipped.
func InNamespace(area string, prepare func()) {
	if os.Getenv(insideEnv) != "" {
		_ = os.Unsetenv(insideEnv) // it is no setting of a gateway
		if err := run("ip", "link", "set", "lo", "up"); err != nil {
			fmt.Println("FAIL:", err)
			os.Exit(1)
		}
		return
	}
	if err := inside(exec.Command("ip", "link", "set", "lo", "up")); err != nil {
		SkipAll(area, fmt.Errorf("no network namespace can be made here: %w", err))
	}
	prepare()
	cmd := exec.Command(os.Args[0], os.Args[1:]...)
	cmd.Env = append(os.Environ(), insideEnv+"=yes")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err := inside(cmd)
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		fmt.Println("FAIL:", err)
		os.Exit(1)
	}
	os.Exit(cmd.ProcessState.ExitCode())
}

// inside runs a command in a new network namespace. Whoever is not root is root in a user namespace made for it.
func inside(cmd *exec.Cmd) error {
	runtime.LockOSThread() // the child dies with the thread that started it
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if uid := os.Geteuid(); uid != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	return cmd.Run()
}
