package testbed

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/sluicedata/sluice/engines"
	"github.com/sluicedata/sluice/engines/spark"
	"github.com/sluicedata/sluice/gateway/store"
)

// Endless is a statement that keeps both cores busy for minutes.
const Endless = "SELECT count(*) FROM range(0, 100000000000, 1, 16) WHERE hash(id) = 1 AND hash(id + 1) = 2"

// Store opens the records of a gateway, running or not.
func (g *Gateway) Store(t T) *store.Store {
	t.Helper()
	at := g.StoreURL
	if at == "" {
		at = filepath.Join(g.DataDir, "sluice.db")
	}
	st, err := store.Open(context.Background(), at)
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() { _ = st.Close() })
	return st
}

// EngineOf finds the running engine of a user in the records of its gateway.
func (g *Gateway) EngineOf(t T, user string) store.Engine {
	t.Helper()
	live, err := g.Store(t).LiveEngines(context.Background())
	if err != nil {
		t.Fatalf("%v", err)
	}
	for _, rec := range live {
		if rec.User == user && rec.State == string(engines.Running) {
			return rec
		}
	}
	t.Fatalf("the store knows no running engine of %s", user)
	return store.Engine{}
}

// DialEngine reaches an engine from this process, with nothing but what its gateway has stored: another replica, or a
// restarted gateway, knows no more.
func (g *Gateway) DialEngine(t T, rec store.Engine) engines.Engine {
	t.Helper()
	secret, err := os.ReadFile(filepath.Join(g.DataDir, "secret"))
	if err != nil {
		t.Fatalf("%v", err)
	}
	mac := hmac.New(sha256.New, []byte(strings.TrimSpace(string(secret))))
	mac.Write([]byte("engine:" + rec.ID))
	e, err := spark.Driver{}.Dial(context.Background(), engines.Endpoint{Address: rec.Address, Token: hex.EncodeToString(mac.Sum(nil))})
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e
}

// LiveHeap is how many bytes of a JVM's heap are in use after a full collection.
func LiveHeap(t T, pid int) int64 {
	t.Helper()
	java, err := exec.LookPath(Java(t))
	if err == nil {
		java, err = filepath.EvalSymlinks(java)
	}
	if err != nil {
		t.Fatalf("%v", err)
	}
	jcmd := filepath.Join(filepath.Dir(java), "jcmd")
	out, err := exec.CommandContext(context.Background(), jcmd, strconv.Itoa(pid), "GC.class_histogram").CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", jcmd, err, out)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	total := strings.Fields(lines[len(lines)-1]) // Total instances bytes
	if len(total) != 3 || total[0] != "Total" {
		t.Fatalf("%s gave no total: %s", jcmd, lines[len(lines)-1])
	}
	n, err := strconv.ParseInt(total[2], 10, 64)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return n
}
