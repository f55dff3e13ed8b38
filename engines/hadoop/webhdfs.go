package hadoop

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
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// WebHDFS is HDFS over HTTP, as a user for whom we may act. What is not there is fs.ErrNotExist, what he may not do is
// fs.ErrPermission. Facts: WebHDFS REST API of Hadoop 3.4.
type WebHDFS struct {
	Access *Access
	Pages  []string // http://host:port of the NameNodes; one of them is active
	User   string
}

// MkdirAll makes a directory, and those above it.
func (w *WebHDFS) MkdirAll(dir string, mode os.FileMode) error {
	return w.call(context.Background(), http.MethodPut, dir, url.Values{"op": {"MKDIRS"}, "permission": {octal(mode)}}, nil)
}

// Chmod changes a mode.
func (w *WebHDFS) Chmod(name string, mode os.FileMode) error {
	return w.call(context.Background(), http.MethodPut, name, url.Values{"op": {"SETPERMISSION"}, "permission": {octal(mode)}}, nil)
}

func octal(mode os.FileMode) string { return strconv.FormatUint(uint64(mode.Perm()), 8) }

// Rename renames.
func (w *WebHDFS) Rename(from, to string) error {
	var answer struct{ Boolean bool }
	err := w.call(context.Background(), http.MethodPut, from, url.Values{"op": {"RENAME"}, "destination": {to}}, &answer)
	if err == nil && !answer.Boolean {
		err = fmt.Errorf("rename %s to %s: the NameNode has not done it", from, to)
	}
	return err
}

// RemoveAll removes a file, or a directory with all that is in it.
func (w *WebHDFS) RemoveAll(name string) error {
	return w.call(context.Background(), http.MethodDelete, name, url.Values{"op": {"DELETE"}, "recursive": {"true"}}, nil)
}

// Stat describes a file.
func (w *WebHDFS) Stat(name string) (os.FileInfo, error) {
	var answer struct{ FileStatus webFile }
	if err := w.call(context.Background(), http.MethodGet, name, url.Values{"op": {"GETFILESTATUS"}}, &answer); err != nil {
		return nil, err
	}
	answer.FileStatus.Suffix = path.Base(name)
	return answer.FileStatus, nil
}

// ReadDir lists a directory.
func (w *WebHDFS) ReadDir(dir string) ([]os.FileInfo, error) {
	var answer struct {
		FileStatuses *struct{ FileStatus []webFile }
	}
	if err := w.call(context.Background(), http.MethodGet, dir, url.Values{"op": {"LISTSTATUS"}}, &answer); err != nil {
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

// Put writes a file, in place of one that is there. The NameNode names a DataNode, with a token for it in the address, and that one takes the data.
func (w *WebHDFS) Put(ctx context.Context, name string, fill func(io.Writer) error) error {
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

// Close does nothing: requests stand for themselves.
func (w *WebHDFS) Close() error { return nil }

func (w *WebHDFS) call(ctx context.Context, method, name string, q url.Values, into any) error {
	resp, err := w.ask(ctx, method, name, q)
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
func (w *WebHDFS) ask(ctx context.Context, method, name string, q url.Values) (*http.Response, error) {
	err := errors.New("its configuration names no address of a NameNode's pages (dfs.namenode.http-address)")
	for _, at := range w.Pages {
		var resp *http.Response
		u := at + (&url.URL{Path: "/webhdfs/v1" + name}).EscapedPath() + "?" + q.Encode()
		if resp, err = w.Access.Do(ctx, method, u, w.User, nil); err != nil {
			continue
		}
		if err = remoteError(resp); err == nil {
			return resp, nil
		}
		_ = resp.Body.Close()
		if !Away(err) {
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

// Away says that HDFS could not be asked, as while a NameNode starts anew: the same may work in a moment.
func Away(err error) bool {
	if err == nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, context.Canceled) {
		return false
	}
	var timeout interface{ Timeout() bool }
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &timeout) {
		return true
	}
	text := err.Error()
	for _, sign := range []string{"no available namenodes", "SafeModeException", "safe mode", "StandbyException", "connection re", "broken pipe",
		"could only be written to 0 of", // no DataNode has come back yet
	} {
		if strings.Contains(text, sign) {
			return true
		}
	}
	return false
}

// Patiently does something with HDFS again while that is away.
func Patiently[T any](ctx context.Context, patience time.Duration, do func() (T, error)) (T, error) {
	wait := backoff.NewExponentialBackOff()
	wait.InitialInterval, wait.MaxInterval = 200*time.Millisecond, 2*time.Second
	out, err := backoff.Retry(ctx, func() (T, error) {
		out, err := do()
		if err != nil && !Away(err) {
			err = backoff.Permanent(err)
		}
		return out, err
	}, backoff.WithBackOff(wait), backoff.WithMaxElapsedTime(patience))
	var permanent *backoff.PermanentError
	if errors.As(err, &permanent) {
		err = permanent.Unwrap()
	}
	return out, err
}
