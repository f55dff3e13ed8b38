package auth

import (
	"bytes"
	"crypto/rand"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/bcrypt"

	"github.com/sluicedata/sluice/gateway/reload"
)

// hash makes a cheap hash; the cost is part of it.
func hash(t *testing.T, password string) string {
	t.Helper()
	h, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	require.NoError(t, err)
	return string(h)
}

// accounts is a password file whose every change can be seen.
type accounts struct {
	path  string
	times int
}

func newAccounts(t *testing.T, lines ...string) *accounts {
	a := &accounts{path: filepath.Join(t.TempDir(), "users")}
	a.write(t, lines...)
	return a
}

// write gives the file another time of change than it had, however coarse the clock of the file system is.
func (a *accounts) write(t *testing.T, lines ...string) {
	t.Helper()
	a.times++
	at := time.Date(2026, 1, 1, 0, 0, a.times, 0, time.UTC)
	fresh := a.path + ".new" // nobody may read the half of it
	require.NoError(t, os.WriteFile(fresh, []byte(strings.Join(lines, "\n")+"\n"), 0o600))
	require.NoError(t, os.Chtimes(fresh, at, at))
	require.NoError(t, os.Rename(fresh, a.path))
}

// newFile is NewFile with a cheap hash for unknown users, because with the race detector a real one takes long.
func newFile(t *testing.T, a *accounts) (*File, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	f := &File{path: a.path, log: slog.New(slog.NewTextHandler(&log, nil)), dummy: []byte(hash(t, "dummy")), proven: map[[32]byte]struct{}{}}
	_, _ = rand.Read(f.key[:])
	var err error
	f.files, err = reload.Watch(a.path)
	require.NoError(t, err)
	f.users, err = readAccounts(a.path)
	require.NoError(t, err)
	f.files.Looked = time.Now().Add(time.Hour) // tests say when the file is looked at again
	return f, &log
}

func TestNewFile(t *testing.T) {
	f, err := NewFile(newAccounts(t, "ann:"+hash(t, "secret")).path, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	require.NotZero(t, f.key)
	cost, err := bcrypt.Cost(f.dummy)
	require.NoError(t, err)
	require.Equal(t, bcrypt.DefaultCost, cost, "an unknown user takes as long as one whose hash sluice password made")
	id, err := f.Authenticate(t.Context(), "ann", "secret")
	require.NoError(t, err)
	require.Equal(t, Identity{User: "ann"}, id)
	_, err = f.Authenticate(t.Context(), "dora", "secret")
	require.ErrorIs(t, err, ErrDenied)
}

// lookAgain lets the next login look at the file, as after a second.
func (f *File) lookAgain() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.files.Looked = time.Time{}
}

func TestNone(t *testing.T) {
	for name, want := range map[string]string{"": "anonymous", "ann": "ann"} {
		id, err := None{}.Authenticate(t.Context(), name, "anything")
		require.NoError(t, err)
		require.Equal(t, Identity{User: want}, id)
	}
}

func TestFile(t *testing.T) {
	apache := "$2y$" + strings.TrimPrefix(hash(t, "carl's"), "$2a$") // as htpasswd writes it
	f, _ := newFile(t, newAccounts(t,
		"# people", "", "ann:"+hash(t, "secret"), "  bob:"+hash(t, "grüße")+":etl, bi ,", "carl:"+apache+":", "blank:"+hash(t, "")))
	for name, tc := range map[string]struct {
		user, password string
		want           Identity // none: denied
	}{
		"right":               {"ann", "secret", Identity{User: "ann"}},
		"right, with groups":  {"bob", "grüße", Identity{User: "bob", Groups: []string{"etl", "bi"}}},
		"right, of htpasswd":  {"carl", "carl's", Identity{User: "carl"}},
		"wrong password":      {"ann", "Secret", Identity{}},
		"password of another": {"ann", "grüße", Identity{}},
		"no password":         {"ann", "", Identity{}},
		"unknown user":        {"dora", "secret", Identity{}},
		"unknown, no words":   {"", "", Identity{}},
		"case of the name":    {"Ann", "secret", Identity{}},
		"a comment":           {"# people", "", Identity{}},
		"name and password":   {"ann:secret", "", Identity{}},
	} {
		t.Run(name, func(t *testing.T) {
			for range 2 { // the second time from what is remembered
				id, err := f.Authenticate(t.Context(), tc.user, tc.password)
				require.Equal(t, tc.want, id)
				if tc.want.User == "" {
					require.ErrorIs(t, err, ErrDenied)
				} else {
					require.NoError(t, err)
				}
			}
		})
	}
}

func TestBadLines(t *testing.T) {
	good := hash(t, "x")
	a := newAccounts(t, "ann:"+good, "just words", ":"+good, "bob:{SHA}abc", "carl:", "# fine", "ann:"+good, "dora:"+good[:40])
	_, err := NewFile(a.path, slog.New(slog.DiscardHandler))
	shape := "must be user:bcrypt-hash[:group,group]; sluice password USER makes such a line"
	hashed := func(user string) string {
		return "the password of " + user + " is not hashed with bcrypt; make it with htpasswd -B or sluice password " + user
	}
	require.EqualError(t, err, "auth.file: "+strings.Join([]string{
		a.path + ":2: " + shape,
		a.path + ":3: " + shape,
		a.path + ":4: " + hashed("bob"),
		a.path + ":5: " + hashed("carl"),
		a.path + ":7: user ann is there twice",
		a.path + ":8: " + hashed("dora"),
	}, "\n"))
	require.NotContains(t, err.Error(), "{SHA}abc", "what stands for a password is not for logs")
}

func TestNoFile(t *testing.T) {
	_, err := NewFile(filepath.Join(t.TempDir(), "none"), slog.New(slog.DiscardHandler))
	require.ErrorIs(t, err, os.ErrNotExist)
	require.ErrorContains(t, err, "auth.file: ")
}

// A login that was right is remembered, and so costs no bcrypt again; one that was wrong is not, or memory would fill.
func TestProven(t *testing.T) {
	f, _ := newFile(t, newAccounts(t, "ann:"+hash(t, "secret")))
	for _, wrong := range [][2]string{{"ann", "no"}, {"dora", "secret"}} {
		_, err := f.Authenticate(t.Context(), wrong[0], wrong[1])
		require.ErrorIs(t, err, ErrDenied)
		require.Empty(t, f.proven)
	}
	_, err := f.Authenticate(t.Context(), "ann", "secret")
	require.NoError(t, err)
	require.Equal(t, map[[32]byte]struct{}{f.mark("ann", "secret", f.users["ann"].hash): {}}, f.proven)

	// That the map is believed shows with a mark that bcrypt would never give.
	f.proven[f.mark("ann", "other", f.users["ann"].hash)] = struct{}{}
	_, err = f.Authenticate(t.Context(), "ann", "other")
	require.NoError(t, err)
	// An unknown user is never believed, whatever is remembered.
	f.proven[f.mark("dora", "x", nil)] = struct{}{}
	_, err = f.Authenticate(t.Context(), "dora", "x")
	require.ErrorIs(t, err, ErrDenied)
}

func TestProvenIsBounded(t *testing.T) {
	f, _ := newFile(t, newAccounts(t, "ann:"+hash(t, "secret")))
	for i := range maxProven {
		f.proven[[32]byte{1, byte(i), byte(i >> 8)}] = struct{}{}
	}
	_, err := f.Authenticate(t.Context(), "ann", "secret")
	require.NoError(t, err)
	require.Len(t, f.proven, 1)
}

// Names and passwords must not run into each other, and no two gateways have the same marks.
func TestMarks(t *testing.T) {
	f, _ := newFile(t, newAccounts(t, "ann:"+hash(t, "secret")))
	g, _ := newFile(t, newAccounts(t, "ann:"+hash(t, "secret")))
	mark := f.mark("ab", "c", []byte("h"))
	require.Equal(t, mark, f.mark("ab", "c", []byte("h")))
	require.NotEqual(t, mark, f.mark("a", "bc", []byte("h")))
	require.NotEqual(t, mark, f.mark("ab", "ch", nil))
	require.NotEqual(t, mark, f.mark("ab", "c", []byte("i")))
	require.NotEqual(t, mark, g.mark("ab", "c", []byte("h")))
}

func TestReload(t *testing.T) {
	file := newAccounts(t, "ann:"+hash(t, "old"), "bob:"+hash(t, "bob's"))
	f, log := newFile(t, file)
	login := func(user, password string) error {
		_, err := f.Authenticate(t.Context(), user, password)
		return err
	}
	require.NoError(t, login("ann", "old"))
	require.NoError(t, login("bob", "bob's"))

	file.write(t, "ann:"+hash(t, "new"), "carl:"+hash(t, "carl's"))
	require.NoError(t, login("ann", "old"), "it is not looked at with every login")

	f.lookAgain()
	require.ErrorIs(t, login("ann", "old"), ErrDenied, "a changed password ends what was remembered")
	require.NoError(t, login("ann", "new"))
	require.Len(t, f.proven, 1, "nothing of the old file is remembered")
	require.ErrorIs(t, login("bob", "bob's"), ErrDenied, "who is gone from the file is gone")
	require.NoError(t, login("carl", "carl's"))
	require.Contains(t, log.String(), "password file read again")
	require.False(t, f.files.Looked.IsZero(), "the next look waits again")

	proven := len(f.proven)
	f.lookAgain()
	require.NoError(t, login("ann", "new"))
	require.Len(t, f.proven, proven, "a file that did not change ends nothing")
	require.Equal(t, 1, strings.Count(log.String(), "\n"))
}

// A typing error, or a file that is just being replaced, must not lock anybody out.
func TestBrokenFileKeepsTheAccounts(t *testing.T) {
	file := newAccounts(t, "ann:"+hash(t, "secret"))
	f, log := newFile(t, file)
	login := func(password string) error {
		f.lookAgain()
		_, err := f.Authenticate(t.Context(), "ann", password)
		return err
	}
	file.write(t, "ann:"+hash(t, "new"), "rubbish")
	require.NoError(t, login("secret"))
	require.ErrorIs(t, login("new"), ErrDenied)
	require.Contains(t, log.String(), file.path+":2: ")

	require.NoError(t, os.Remove(file.path))
	require.NoError(t, login("secret"))

	file.write(t, "ann:"+hash(t, "new"))
	require.NoError(t, login("new"), "once it is right again it holds")
	require.ErrorIs(t, login("secret"), ErrDenied)
}

func TestManyLogins(t *testing.T) {
	file := newAccounts(t, "ann:"+hash(t, "secret"))
	f, _ := newFile(t, file)
	var wg sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		wg.Go(func() {
			for range 10 {
				f.lookAgain()
				if _, err := f.Authenticate(t.Context(), "ann", "secret"); err != nil {
					errs[i] = err
				}
			}
		})
	}
	file.write(t, "# the same", "ann:"+hash(t, "secret"))
	wg.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
}

func TestHash(t *testing.T) {
	h, err := Hash("secret")
	require.NoError(t, err)
	f, _ := newFile(t, newAccounts(t, "ann:"+h))
	_, err = f.Authenticate(t.Context(), "ann", "secret")
	require.NoError(t, err)

	_, err = Hash("")
	require.EqualError(t, err, "the password is empty")
	_, err = Hash(strings.Repeat("x", 73))
	require.ErrorIs(t, err, bcrypt.ErrPasswordTooLong)
}
