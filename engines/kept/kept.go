// Package kept keeps on this machine what clusters forget with an application: its log, and how it ended.
package kept

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/sluicedata/sluice/engines"
)

// Age is for how long something is kept.
const Age = 7 * 24 * time.Hour

// Dir is a directory for one cluster. An empty one keeps nothing.
type Dir string

// Log writes the end of an application's log, and returns where; empty if there is nothing to keep.
func (d Dir) Log(id, text string) (string, error) {
	if text == "" {
		return "", nil
	}
	return d.write(id+".log", []byte(text))
}

// Read returns a log that was kept; empty if there is none.
func (d Dir) Read(id string) string {
	data, err := os.ReadFile(filepath.Join(string(d), id+".log"))
	if err != nil || d == "" {
		return ""
	}
	return string(data)
}

// App writes how an application ended.
func (d Dir) App(a engines.App) error {
	data, err := json.Marshal(a)
	if err == nil {
		_, err = d.write(string(a.Tag)+".json", data)
	}
	return err
}

// Ended returns an application that has ended, if that was kept.
func (d Dir) Ended(tag engines.Tag) (app engines.App, found bool, err error) {
	if d == "" || filepath.Base(string(tag)) != string(tag) {
		return app, false, nil
	}
	data, err := os.ReadFile(filepath.Join(string(d), string(tag)+".json"))
	if errors.Is(err, os.ErrNotExist) {
		return app, false, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &app)
	}
	if err != nil {
		return app, false, fmt.Errorf("read what was kept of %s: %w", tag, err)
	}
	return app, true, nil
}

// write replaces a file as a whole: it is read by who asks meanwhile.
func (d Dir) write(name string, data []byte) (string, error) {
	if d == "" {
		return "", nil
	}
	at := filepath.Join(string(d), name)
	err := os.MkdirAll(string(d), 0o700)
	if err == nil {
		err = os.WriteFile(at+".new", data, 0o600)
	}
	if err == nil {
		err = os.Rename(at+".new", at)
	}
	if err != nil {
		return "", fmt.Errorf("keep %s: %w", name, err)
	}
	return at, nil
}

// DropOld deletes what has been kept long enough.
func (d Dir) DropOld(now time.Time) error {
	entries, err := os.ReadDir(string(d))
	if errors.Is(err, os.ErrNotExist) || d == "" {
		return nil
	}
	for _, e := range entries {
		info, ierr := e.Info()
		if ierr == nil && info.Mode().IsRegular() && now.Sub(info.ModTime()) > Age {
			err = errors.Join(err, os.Remove(filepath.Join(string(d), e.Name())))
		}
	}
	return err
}
