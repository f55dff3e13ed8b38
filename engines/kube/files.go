package kube

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sluicedata/sluice/engines"
	"github.com/sluicedata/sluice/engines/files"
)

// FileServer serves the files of batches to their drivers, by addresses that nobody can guess: each names a file, an end of
// its time, and a signature of both. An address is good until its batch has begun, and for linkLife at most.
type FileServer struct {
	Base   string // address under which drivers reach Handler, such as http://10.0.0.7:10099/files
	Secret []byte // signs addresses; the same on all gateways that share the work
	mu     sync.Mutex
	closed map[string]time.Time // batches that have begun, until their addresses end by themselves
}

// linkLife is for how long a driver may take until it has fetched its files.
const linkLife = time.Hour

// link is the address of a file for a batch.
func (s *FileServer) link(tag engines.Tag, file, name string, now time.Time) string {
	until := strconv.FormatInt(now.Add(linkLife).Unix(), 10)
	t := string(key(tag))
	where := base64.RawURLEncoding.EncodeToString([]byte(file))
	return strings.TrimSuffix(s.Base, "/") + "/" + path.Join(t, until, s.sign(t, until, where, name), where, url.PathEscape(name))
}

func (s *FileServer) sign(parts ...string) string {
	mac := hmac.New(sha256.New, s.Secret)
	mac.Write([]byte("file:" + strings.Join(parts, "/")))
	return hex.EncodeToString(mac.Sum(nil))
}

// done ends the addresses of a batch.
func (s *FileServer) done(tag engines.Tag) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if s.closed == nil {
		s.closed = map[string]time.Time{}
	}
	for t, until := range s.closed {
		if now.After(until) {
			delete(s.closed, t)
		}
	}
	s.closed[string(key(tag))] = now.Add(linkLife)
}

// ServeHTTP serves what is behind the base's path. Whatever is wrong with an address, the answer is the same.
func (s *FileServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	if len(parts) != 5 || r.Method != http.MethodGet && r.Method != http.MethodHead || !s.good(parts) {
		http.NotFound(w, r)
		return
	}
	file, err := base64.RawURLEncoding.DecodeString(parts[3])
	if err != nil {
		http.NotFound(w, r)
		return
	}
	f, err := os.Open(string(file))
	if err != nil {
		http.Error(w, "the gateway cannot read the file any more", http.StatusGone)
		return
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		http.Error(w, "it is no file any more", http.StatusGone)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", info.ModTime(), f)
}

// good says that an address is one of ours, and its time has not ended: TAG/UNTIL/SIGNATURE/FILE/NAME.
func (s *FileServer) good(parts []string) bool {
	tag, until, signature, file, name := parts[0], parts[1], parts[2], parts[3], parts[4]
	if !hmac.Equal([]byte(signature), []byte(s.sign(tag, until, file, name))) {
		return false
	}
	end, err := strconv.ParseInt(until, 10, 64)
	s.mu.Lock()
	defer s.mu.Unlock()
	_, closed := s.closed[tag]
	return err == nil && time.Now().Unix() < end && !closed
}

// links says where the files of a batch are fetched. Those on this machine are looked at before anything is submitted.
func (c *Cluster) links(l engines.Launch) (map[string]string, error) {
	if l.Program == nil {
		return nil, nil
	}
	out := map[string]string{}
	for _, f := range l.Program.Bring {
		if strings.HasPrefix(f.From, "hdfs:") {
			u, err := url.Parse(f.From)
			if err == nil && !f.Archive && path.Base(u.Path) != f.Link {
				err = fmt.Errorf("on Kubernetes a file on HDFS keeps its own name: leave out #%s, or name a copy", f.Link)
			}
			if err == nil && len(c.opt.Site.HadoopConf) == 0 && u.Host == "" {
				err = fmt.Errorf("the cluster has no HDFS of its own: name the NameNode, hdfs://HOST:PORT%s, or set %s.hadoop_conf", u.Path, c.path())
			}
			if err != nil {
				return nil, fmt.Errorf("%s: %w", f.Field, err)
			}
			out[f.Link] = f.From
			continue
		}
		if c.opt.Files == nil || c.opt.Files.Base == "" {
			return nil, fmt.Errorf("%s: %s is on the gateway's machine, and pods cannot reach the gateway: set %s.files_url to its address for them, or put the file on HDFS", f.Field, f.From, c.path())
		}
		if err := files.Readable(f); err != nil {
			return nil, fmt.Errorf("%s: %w", f.Field, err)
		}
		out[f.Link] = c.opt.Files.link(l.Tag, f.From, nameOf(f), time.Now())
	}
	return out, nil
}

// nameOf is how a file is called in its address. Spark unpacks an archive by the end of its name.
func nameOf(f engines.File) string {
	if !f.Archive {
		return f.Link
	}
	return f.Link + files.Ending(f.From)
}
