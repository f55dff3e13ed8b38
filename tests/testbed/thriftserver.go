package testbed

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/sluicedata/sluice/engines/spark"
)

// Server is a running server of somebody else's.
type Server struct {
	Address string
	PID     int
	stop    func()
}

// Stop ends it, which otherwise the test's end does.
func (s Server) Stop() { s.stop() }

// StartThriftServer starts the HiveServer2 that is part of the stock Spark that the tests run on. Its catalogue is in
// memory and its warehouse in a directory of its own; it ends with the test. It collects a result on its heap before it
// gives out the first row, so that heap is large.
func StartThriftServer(t T, env ...string) Server {
	t.Helper()
	java, home := Java(t), SparkHome(t)
	dir, err := os.MkdirTemp("", "sluice-thriftserver-")
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	address := FreeAddress(t)
	host, port, _ := net.SplitHostPort(address)
	args := append([]string{"-Xmx4g"}, spark.JVMOptions()...)
	for _, conf := range []string{
		"spark.master=local[2]", "spark.driver.host=127.0.0.1", "spark.driver.bindAddress=127.0.0.1", "spark.ui.enabled=false",
		"spark.log.level=WARN", "spark.sql.warehouse.dir=" + filepath.Join(dir, "warehouse"), "spark.sql.catalogImplementation=hive",
		"spark.hadoop.javax.jdo.option.ConnectionURL=jdbc:derby:memory:metastore;create=true", "java.io.tmpdir=" + dir,
		"spark.hadoop.hive.server2.thrift.bind.host=" + host, "spark.hadoop.hive.server2.thrift.port=" + port,
	} {
		args = append(args, "-D"+conf)
	}
	args = append(args, "-cp", filepath.Join(home, "jars", "*"), "org.apache.spark.sql.hive.thriftserver.HiveThriftServer2")
	return serve(t, dir, address, env, java, args)
}

// serve starts a server in a directory and waits until it listens.
func serve(t T, dir, address string, env []string, name string, args []string) Server {
	t.Helper()
	log := &Log{}
	cmd := exec.CommandContext(context.Background(), name, args...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, append(os.Environ(), env...), log, log
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	stop := sync.OnceFunc(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(20 * time.Second):
			_ = cmd.Process.Kill()
			<-ended
		}
	})
	t.Cleanup(stop)
	Until(t, 3*time.Minute, "the server listens", func() bool {
		select {
		case <-ended:
			t.Fatalf("the server ended: %s", log.String())
		default:
		}
		var d net.Dialer
		conn, err := d.DialContext(context.Background(), "tcp", address)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	return Server{Address: address, PID: cmd.Process.Pid, stop: stop}
}
