package yarn

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"strconv"
	"time"
)

// webHDFS is HDFS over HTTP, where the gateway may act for a user. Facts: WebHDFS REST API of Hadoop 3.4.
type webHDFS struct {
	access    *access
	namenodes []string // http://host:port; one of them is active
	user      string
}

// MkdirAll implements fileSystem.
func (w *webHDFS) MkdirAll(dir string, mode os.FileMode) error {
	return w.call(http.MethodPut, dir, url.Values{"op": {"MKDIRS"}, "permission": {octal(mode)}}, nil)
}

// Chmod implements fileSystem.
func (w *webHDFS) Chmod(name string, mode os.FileMode) error {
	return w.call(http.MethodPut, name, url.Values{"op": {"SETPERMISSION"}, "permission": {octal(mode)}}, nil)
}

func octal(mode os.FileMode) string { return strconv.FormatUint(uint64(mode.Perm()), 8) }

// Rename implements fileSystem.
func (w *webHDFS) Rename(from, to string) error {
	var answer struct{ Boolean bool }
	err := w.call(http.MethodPut, from, url.Values{"op": {"RENAME"}, "destination": {to}}, &answer)
	if err == nil && !answer.Boolean {
		err = fmt.Errorf("rename %s to %s: the NameNode has not done it", from, to)
	}
	return err
}

// RemoveAll implements fileSystem.
func (w *webHDFS) RemoveAll(name string) error {
	return w.call(http.MethodDelete, name, url.Values{"op": {"DELETE"}, "recursive": {"true"}}, nil)
}

// Stat implements fileSystem.
func (w *webHDFS) Stat(name string) (os.FileInfo, error) {
	var answer struct{ FileStatus webFile }
	if err := w.call(http.MethodGet, name, url.Values{"op": {"GETFILESTATUS"}}, &answer); err != nil {
		return nil, err
	}
	answer.FileStatus.Suffix = path.Base(name)
	return answer.FileStatus, nil
}

// ReadDir implements fileSystem.
func (w *webHDFS) ReadDir(dir string) ([]os.FileInfo, error) {
	var answer struct {
		FileStatuses *struct{ FileStatus []webFile }
	}
	if err := w.call(http.MethodGet, dir, url.Values{"op": {"LISTSTATUS"}}, &answer); err != nil {
		return nil, err
	}
	if answer.FileStatuses == nil {
		return nil, fmt.Errorf("list %s: the NameNode answered without a list", dir)
	}
	var out []os.FileInfo
	for _, f := range answer.FileStatuses.FileStatus {
		out = append(out, f)
	}
	return out, nil
}

// webFile is a file's description as WebHDFS gives it.
type webFile struct {
	Suffix     string `json:"pathSuffix"`
	Kind       string `json:"type"`
	Length     int64  `json:"length"`
	Modified   int64  `json:"modificationTime"` // milliseconds since the epoch
	Permission string `json:"permission"`       // octal
}

func (f webFile) Name() string       { return f.Suffix }
func (f webFile) Size() int64        { return f.Length }
func (f webFile) ModTime() time.Time { return time.UnixMilli(f.Modified) }
func (f webFile) IsDir() bool        { return f.Kind == "DIRECTORY" }
func (f webFile) Sys() any           { return f }
func (f webFile) Mode() os.FileMode {
	bits, _ := strconv.ParseUint(f.Permission, 8, 32)
	mode := os.FileMode(bits) & os.ModePerm
	if f.IsDir() {
		mode |= os.ModeDir
	}
	return mode
}

// Put implements fileSystem. The NameNode names a DataNode, with a token for it in the address, and that one takes the data.
func (w *webHDFS) Put(ctx context.Context, name string, fill func(io.Writer) error) error {
	resp, err := w.ask(ctx, http.MethodPut, name, url.Values{"op": {"CREATE"}, "overwrite": {"true"}, "permission": {octal(0o644)}})
	if err != nil {
		return err
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusTemporaryRedirect {
		return fmt.Errorf("write %s: the NameNode names no DataNode: %s", name, resp.Status)
	}
	in, out := io.Pipe()
	go func() { out.CloseWithError(fill(out)) }()
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, resp.Header.Get("Location"), in)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	if resp, err = http.DefaultClient.Do(req); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	defer func() { _ = resp.Body.Close() }()
	return remoteError(resp)
}

// Close implements fileSystem.
func (w *webHDFS) Close() error { return nil }

// token gets a delegation token of the user's: its bearer, a driver in a container, is let into HDFS as him. The kind has to
// be said, or the token is good for WebHDFS alone, and the ResourceManager cannot renew it.
func (w *webHDFS) token(renewer, service string) (string, error) {
	var answer struct {
		Token struct {
			URLString string `json:"urlString"`
		}
	}
	err := w.call(http.MethodGet, "/", url.Values{"op": {"GETDELEGATIONTOKEN"}, "renewer": {renewer}, "service": {service}, "kind": {"HDFS_DELEGATION_TOKEN"}}, &answer)
	if err == nil && answer.Token.URLString == "" {
		err = errors.New("the NameNode gives no delegation token")
	}
	return answer.Token.URLString, err
}

func (w *webHDFS) call(method, name string, q url.Values, into any) error {
	resp, err := w.ask(context.Background(), method, name, q)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if into == nil {
		return nil
	}
	return json.NewDecoder(resp.Body).Decode(into)
}

// ask asks each NameNode until one answers that is active.
func (w *webHDFS) ask(ctx context.Context, method, name string, q url.Values) (*http.Response, error) {
	err := errors.New("its configuration names no address of a NameNode's pages (dfs.namenode.http-address)")
	for _, at := range w.namenodes {
		var resp *http.Response
		u := at + (&url.URL{Path: "/webhdfs/v1" + name}).EscapedPath() + "?" + q.Encode()
		if resp, err = w.access.do(ctx, method, u, w.user, nil); err != nil {
			continue
		}
		if err = remoteError(resp); err == nil {
			return resp, nil
		}
		_ = resp.Body.Close()
		if !away(err) {
			break
		}
	}
	return nil, fmt.Errorf("WebHDFS: %w", err)
}

// remoteError reads the exception in an answer, if it is one.
func remoteError(resp *http.Response) error {
	if resp.StatusCode < 400 {
		return nil
	}
	var body struct {
		RemoteException struct{ Exception, Message string }
	}
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	_ = json.Unmarshal(text, &body)
	e := body.RemoteException
	switch e.Exception {
	case "":
		return fmt.Errorf("%s answers %s", resp.Request.URL.Host, resp.Status)
	case "FileNotFoundException":
		return fmt.Errorf("%s: %w", e.Message, fs.ErrNotExist)
	case "AccessControlException":
		return fmt.Errorf("%s: %w", e.Message, fs.ErrPermission)
	}
	return fmt.Errorf("%s: %s", e.Exception, e.Message)
}
