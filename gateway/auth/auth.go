// Package auth proves who clients are.
package auth

import (
	"context"
	"errors"
)

// Identity is who a client is.
type Identity struct {
	User   string
	Groups []string
	// RealUser is who logged in, where User is somebody else for whom it acts; otherwise empty.
	RealUser string
}

// ErrDenied says that a login is wrong. It never says whether the name or the password was.
var ErrDenied = errors.New("the user name or the password is wrong")

// Authenticator proves a name with a password. It is safe for concurrent use. An error that is not ErrDenied means
// that it could not find out.
type Authenticator interface {
	Authenticate(ctx context.Context, user, password string) (Identity, error)
}

// None believes every name.
type None struct{}

// Authenticate implements Authenticator; a client without a name is "anonymous".
func (None) Authenticate(_ context.Context, user, _ string) (Identity, error) {
	if user == "" {
		user = "anonymous"
	}
	return Identity{User: user}, nil
}
