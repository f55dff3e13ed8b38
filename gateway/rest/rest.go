// Package rest answers REST clients under /api/v1: what the router sees, how it would decide, and what administrators tell
// it. Errors are problem+json (RFC 9457).
package rest

import (
	"context"
	"errors"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/sluicedata/sluice/gateway/auth"
	"github.com/sluicedata/sluice/gateway/route"
	"github.com/sluicedata/sluice/router"
	"github.com/sluicedata/sluice/router/cases"
	"github.com/sluicedata/sluice/router/rules"
)

// Router is what the pages need of the router.
type Router interface {
	Explain(*router.Request) *rules.Trace
	Clusters() *router.Snapshot
	Status(context.Context) (route.Status, error)
	Rollback(ctx context.Context, version, by string) error
	Drain(ctx context.Context, cluster string, yes bool, by string) error
}

// Options of the pages.
type Options struct {
	Auth   auth.Authenticator
	Admins auth.Admins
	Router Router
}

// Prefix is the path under which all pages are.
const Prefix = "/api/v1"

type api struct{ Options }

// Handler answers everything under Prefix.
func Handler(opt Options) http.Handler {
	gin.SetMode(gin.ReleaseMode)
	r := gin.New()
	r.Use(gin.Recovery())
	r.NoRoute(func(c *gin.Context) { problem(c, http.StatusNotFound, "there is no such page: "+c.Request.URL.Path) })
	a := api{opt}
	in := r.Group(Prefix, a.login)
	in.GET("/clusters", func(c *gin.Context) { c.JSON(http.StatusOK, opt.Router.Clusters()) })
	in.POST("/route/explain", a.explain)
	admin := in.Group("", a.adminsOnly)
	admin.POST("/clusters/:name/drain", func(c *gin.Context) { a.drain(c, true) })
	admin.POST("/clusters/:name/undrain", func(c *gin.Context) { a.drain(c, false) })
	admin.GET("/route/versions", a.versions)
	admin.POST("/route/rollback", a.rollback)
	return r
}

type problemDetails struct {
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
}

func problem(c *gin.Context, status int, detail string) {
	c.Header("Content-Type", "application/problem+json")
	c.AbortWithStatusJSON(status, problemDetails{http.StatusText(status), status, detail})
}

const identityKey = "identity"

// login asks who the client is.
func (a api) login(c *gin.Context) {
	user, password, ok := c.Request.BasicAuth()
	if !ok || user == "" {
		c.Header("WWW-Authenticate", `Basic realm="sluice"`)
		problem(c, http.StatusUnauthorized, "say who you are, by HTTP basic authentication")
		return
	}
	id, err := a.Auth.Authenticate(c.Request.Context(), user, password)
	switch {
	case errors.Is(err, auth.ErrDenied):
		c.Header("WWW-Authenticate", `Basic realm="sluice"`)
		problem(c, http.StatusUnauthorized, err.Error())
	case err != nil:
		problem(c, http.StatusServiceUnavailable, err.Error())
	default:
		c.Set(identityKey, id)
	}
}

func identity(c *gin.Context) auth.Identity { return c.MustGet(identityKey).(auth.Identity) }

func (a api) adminsOnly(c *gin.Context) {
	if !a.Admins.Include(identity(c)) {
		problem(c, http.StatusForbidden, auth.ErrNoAdmin.Error())
	}
}

// explain says how the router would decide. Who is no administrator asks for himself.
func (a api) explain(c *gin.Context) {
	var q cases.Request
	if err := c.ShouldBindJSON(&q); err != nil {
		problem(c, http.StatusBadRequest, "the body must be a request in JSON, such as {\"sql\": \"SELECT 1\"}: "+err.Error())
		return
	}
	if id := identity(c); q.User == "" || !a.Admins.Include(id) {
		if q.User != "" && q.User != id.User || q.RealUser != "" {
			problem(c, http.StatusForbidden, "only an administrator may ask for another user: auth.admin_users and auth.admin_groups name them")
			return
		}
		q.User, q.Groups = id.User, id.Groups
	}
	trace, err := a.trace(q)
	if err != nil {
		problem(c, http.StatusBadRequest, err.Error())
		return
	}
	c.JSON(http.StatusOK, trace)
}

func (a api) trace(q cases.Request) (*rules.Trace, error) {
	r, err := q.Now()
	if err != nil {
		return nil, err
	}
	return a.Router.Explain(&r), nil
}

func (a api) drain(c *gin.Context, yes bool) {
	a.done(c, a.Router.Drain(c.Request.Context(), c.Param("name"), yes, identity(c).User))
}

func (a api) rollback(c *gin.Context) {
	var body struct {
		Version string `json:"version"`
	}
	if err := c.ShouldBindJSON(&body); err != nil {
		problem(c, http.StatusBadRequest, "the body must be {\"version\": \"…\"}; an empty version ends a rollback: "+err.Error())
		return
	}
	a.done(c, a.Router.Rollback(c.Request.Context(), body.Version, identity(c).User))
}

func (a api) versions(c *gin.Context) {
	s, err := a.Router.Status(c.Request.Context())
	if err != nil {
		problem(c, http.StatusServiceUnavailable, err.Error())
		return
	}
	c.JSON(http.StatusOK, s)
}

func (a api) done(c *gin.Context, err error) {
	switch {
	case errors.Is(err, route.ErrUnknown):
		problem(c, http.StatusNotFound, err.Error())
	case err != nil:
		problem(c, http.StatusServiceUnavailable, err.Error())
	default:
		c.Status(http.StatusNoContent)
	}
}
