package auth

import (
	"bufio"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"

	"golang.org/x/crypto/bcrypt"

	"github.com/sluicedata/sluice/gateway/reload"
)

// maxProven bounds the memory of logins that were right.
const maxProven = 10_000

// File proves passwords with a file of lines user:bcrypt-hash[:group,group], as htpasswd -B makes them. It is read
// again when it changes.
type File struct {
	path  string
	log   *slog.Logger
	dummy []byte // compared with for unknown users, so that they take as long as known ones

	mu    sync.Mutex
	users map[string]account
	files *reload.Files
	// proven remembers right logins by a keyed hash, because bcrypt is slow on purpose and pools log in often.
	key    [32]byte
	proven map[[32]byte]struct{}
}

type account struct {
	hash   []byte
	groups []string
}

// NewFile reads the password file. The error names every line that is wrong.
func NewFile(path string, log *slog.Logger) (*File, error) {
	f := &File{path: path, log: log, proven: map[[32]byte]struct{}{}}
	if _, err := rand.Read(f.key[:]); err != nil {
		return nil, err
	}
	var err error
	if f.dummy, err = bcrypt.GenerateFromPassword(f.key[:], bcrypt.DefaultCost); err != nil {
		return nil, err
	}
	if f.files, err = reload.Watch(path); err != nil {
		return nil, fmt.Errorf("auth.file: %w", err)
	}
	if f.users, err = readAccounts(path); err != nil {
		return nil, fmt.Errorf("auth.file: %w", err)
	}
	return f, nil
}

func readAccounts(path string) (map[string]account, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	users := map[string]account{}
	var errs []error
	scan := bufio.NewScanner(file)
	for n := 1; scan.Scan(); n++ {
		line := strings.TrimSpace(scan.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		user, a, err := parseAccount(line)
		if _, twice := users[user]; err == nil && twice {
			err = fmt.Errorf("user %s is there twice", user)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s:%d: %w", path, n, err))
			continue
		}
		users[user] = a
	}
	errs = append(errs, scan.Err())
	if len(users) == 0 && errors.Join(errs...) == nil { // perhaps somebody is just writing it
		return nil, fmt.Errorf("%s holds no account", path)
	}
	return users, errors.Join(errs...)
}

func parseAccount(line string) (string, account, error) {
	user, rest, ok := strings.Cut(line, ":")
	hash, groups, _ := strings.Cut(rest, ":")
	if !ok || user == "" {
		return "", account{}, errors.New("must be user:bcrypt-hash[:group,group]; sluice password USER makes such a line")
	}
	if _, err := bcrypt.Cost([]byte(hash)); err != nil {
		return "", account{}, fmt.Errorf("the password of %s is not hashed with bcrypt; make it with htpasswd -B or sluice password %s", user, user)
	}
	a := account{hash: []byte(hash)}
	for _, g := range strings.Split(groups, ",") {
		if g = strings.TrimSpace(g); g != "" {
			a.groups = append(a.groups, g)
		}
	}
	return user, a, nil
}

// Authenticate implements Authenticator.
func (f *File) Authenticate(_ context.Context, user, password string) (Identity, error) {
	a, known := f.find(user)
	mark := f.mark(user, password, a.hash)
	f.mu.Lock()
	_, proven := f.proven[mark]
	f.mu.Unlock()
	if known && proven {
		return Identity{User: user, Groups: a.groups}, nil
	}
	hash := a.hash
	if !known {
		hash = f.dummy
	}
	if err := bcrypt.CompareHashAndPassword(hash, []byte(password)); err != nil || !known {
		return Identity{}, ErrDenied
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.proven) >= maxProven {
		clear(f.proven)
	}
	f.proven[mark] = struct{}{}
	return Identity{User: user, Groups: a.groups}, nil
}

// Groups implements Groups.
func (f *File) Groups(_ context.Context, user string) ([]string, error) {
	a, _ := f.find(user)
	return a.groups, nil
}

// mark names a login without telling the password. The hash is part of it, so that a changed password is asked anew.
func (f *File) mark(user, password string, hash []byte) (out [32]byte) {
	mac := hmac.New(sha256.New, f.key[:])
	for _, part := range []string{user, password, string(hash)} {
		fmt.Fprintf(mac, "%d:%s", len(part), part)
	}
	copy(out[:], mac.Sum(nil))
	return out
}

func (f *File) find(user string) (account, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reload()
	a, ok := f.users[user]
	return a, ok
}

// reload reads the file again if it changed. One that is broken changes nothing: nobody is locked out by a typing error.
func (f *File) reload() {
	changed, err := f.files.Changed()
	if !changed && err == nil {
		return
	}
	var users map[string]account
	if err == nil {
		users, err = readAccounts(f.path)
	}
	if err != nil {
		f.log.Error("the changed password file cannot be read; the old one holds", "error", err)
		return
	}
	f.users = users
	clear(f.proven)
	f.log.Info("password file read again", "users", len(users))
}

// Hash hashes a password for the file. Bcrypt takes 72 bytes.
func Hash(password string) (string, error) {
	if password == "" {
		return "", errors.New("the password is empty")
	}
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.DefaultCost)
	if err != nil {
		return "", fmt.Errorf("hash the password: %w", err)
	}
	return string(hash), nil
}
