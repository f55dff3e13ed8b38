package auth

import (
	"errors"
	"slices"
)

// Admins are who may look into the gateway itself.
type Admins struct{ users, groups []string }

// NewAdmins reads lists with commas. There is no word for everybody.
func NewAdmins(users, groups string) Admins { return Admins{users: list(users), groups: list(groups)} }

// ErrNoAdmin is what somebody else hears.
var ErrNoAdmin = errors.New("this is for administrators only: auth.admin_users and auth.admin_groups name them")

// Empty says that nobody is one.
func (a Admins) Empty() bool { return len(a.users) == 0 && len(a.groups) == 0 }

// Include says whether somebody who has logged in is one. Who acts for another user is not, whoever either is.
func (a Admins) Include(id Identity) bool {
	return id.RealUser == "" && (slices.Contains(a.users, id.User) ||
		slices.ContainsFunc(a.groups, func(g string) bool { return slices.Contains(id.Groups, g) }))
}
