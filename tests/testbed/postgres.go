package testbed

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
)

// Postgres is a running PostgreSQL server with a database of ours. It can be taken away for a while.
type Postgres struct {
	URL  string
	dir  string
	bin  string
	port int
	cmd  *exec.Cmd
	t    T
	made int // databases
}

// StartPostgres starts a PostgreSQL server on a directory of its own. It is Debian's, installed if it is not there.
func StartPostgres(t T) *Postgres {
	t.Helper()
	dir, err := os.MkdirTemp("", "sluice-postgres-")
	if err != nil {
		t.Fatalf("%v", err)
	}
	p := &Postgres{dir: dir, bin: postgresBin(t), t: t}
	t.Cleanup(func() { p.Stop(); _ = os.RemoveAll(dir) })
	secret := filepath.Join(dir, "password")
	if err := os.WriteFile(secret, []byte("s3cret"), 0o644); err != nil {
		t.Fatalf("%v", err)
	}
	uid, gid := serverUser(t)
	for _, f := range []string{dir, secret} {
		if err := os.Chown(f, uid, gid); err != nil {
			t.Fatalf("%v", err)
		}
	}
	cmd := p.command("initdb", "-D", filepath.Join(dir, "data"), "-U", "sluice", "-A", "scram-sha-256", "--pwfile", secret, "-E", "UTF8", "--no-sync")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v: %s", err, out)
	}
	p.port = FreePort(t)
	p.URL = (&url.URL{Scheme: "postgres", User: url.UserPassword("sluice", "s3cret"), Host: fmt.Sprintf("127.0.0.1:%d", p.port), Path: "postgres",
		RawQuery: "sslmode=disable&connect_timeout=2"}).String()
	p.Start()
	return p
}

// postgresBin finds the directory of the newest server; Debian keeps each version in one of its own.
func postgresBin(t T) string {
	t.Helper()
	find := func() string {
		found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
		if len(found) == 0 {
			return ""
		}
		return filepath.Dir(found[len(found)-1])
	}
	if find() == "" {
		for _, args := range [][]string{{"update", "-q"}, {"install", "-q", "-y", "--no-install-recommends", "postgresql"}} {
			if err := run("apt-get", args...); err != nil {
				t.Fatalf("PostgreSQL is missing, and cannot be installed: %v", err)
			}
		}
	}
	bin := find()
	if bin == "" {
		t.Fatalf("there is no initdb in /usr/lib/postgresql")
	}
	return bin
}

// serverUser is whom the server runs as: it refuses to run as root.
func serverUser(t T) (uid, gid int) {
	t.Helper()
	if os.Getuid() != 0 {
		return os.Getuid(), os.Getgid()
	}
	u, err := user.Lookup("nobody")
	if err != nil {
		t.Fatalf("%v", err)
	}
	uid, _ = strconv.Atoi(u.Uid)
	gid, _ = strconv.Atoi(u.Gid)
	return uid, gid
}

func (p *Postgres) command(name string, args ...string) *exec.Cmd {
	p.t.Helper()
	cmd := exec.CommandContext(context.Background(), filepath.Join(p.bin, name), args...)
	cmd.Dir = p.dir
	if uid, gid := serverUser(p.t); os.Getuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	}
	return cmd
}

// Start starts the server, again on the same port, and waits until it answers.
func (p *Postgres) Start() {
	p.t.Helper()
	p.cmd = p.command("postgres", "-D", filepath.Join(p.dir, "data"), "-p", strconv.Itoa(p.port), "-c", "listen_addresses=127.0.0.1",
		"-c", "unix_socket_directories="+p.dir, "-c", "fsync=off", "-c", "max_connections=200")
	log := &Log{}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if err := p.cmd.Start(); err != nil {
		p.t.Fatalf("start postgres: %v", err)
	}
	Until(p.t, 30*time.Second, "PostgreSQL is ready: "+strings.TrimSpace(log.String()), func() bool {
		return p.command("pg_isready", "-q", "-h", "127.0.0.1", "-p", strconv.Itoa(p.port)).Run() == nil
	})
}

// Stop takes the server away: connections are cut.
func (p *Postgres) Stop() {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Signal(syscall.SIGINT) // a fast shutdown
	_ = p.cmd.Wait()
	p.cmd = nil
}

func FreePort(t T) int {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("%v", err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port
}

// FreeAddress is one on this machine alone that nobody listens on.
func FreeAddress(t T) string {
	t.Helper()
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(FreePort(t)))
}

// Database makes an empty database of its own for a test, and returns its URL.
func (p *Postgres) Database(t T) string {
	t.Helper()
	admin, err := sql.Open("pgx", p.URL)
	if err != nil {
		t.Fatalf("%v", err)
	}
	defer func() { _ = admin.Close() }()
	p.made++
	name := fmt.Sprintf("test_%d", p.made)
	if _, err := admin.ExecContext(context.Background(), "CREATE DATABASE "+name); err != nil {
		t.Fatalf("%v", err)
	}
	at, err := url.Parse(p.URL)
	if err != nil {
		t.Fatalf("%v", err)
	}
	at.Path = name
	return at.String()
}
