package ops

import (
	"context"
	"errors"
	"net/http"
	"net/http/pprof"

	"github.com/gin-gonic/gin"

	"github.com/sluicedata/sluice/gateway/auth"
)

// Admin says whether a user with a password is an administrator. An error is nil for one who is, auth.ErrNoAdmin for somebody
// else, auth.ErrDenied for a wrong password; any other means that it could not find out.
type Admin func(ctx context.Context, user, password string) error

// NewAdmin asks an authenticator who somebody is.
func NewAdmin(who auth.Authenticator, admins auth.Admins) Admin {
	return func(ctx context.Context, user, password string) error {
		if admins.Empty() {
			return auth.ErrNoAdmin
		}
		id, err := who.Authenticate(ctx, user, password)
		if err == nil && !admins.Include(id) {
			err = auth.ErrNoAdmin
		}
		return err
	}
}

// debug answers Go's profiles to administrators: `go tool pprof http://admin:password@host:port/debug/pprof/heap`.
func debug(r *gin.Engine, admin Admin) {
	pages := r.Group("/debug/pprof", func(c *gin.Context) {
		user, password, ok := c.Request.BasicAuth()
		err := auth.ErrDenied
		if ok {
			err = admin(c.Request.Context(), user, password)
		}
		switch {
		case err == nil:
			return
		case errors.Is(err, auth.ErrNoAdmin):
			c.String(http.StatusForbidden, err.Error())
		case errors.Is(err, auth.ErrDenied):
			c.Header("WWW-Authenticate", `Basic realm="sluice"`)
			c.String(http.StatusUnauthorized, err.Error())
		default:
			c.String(http.StatusServiceUnavailable, err.Error())
		}
		c.Abort()
	})
	pages.GET("/cmdline", gin.WrapF(pprof.Cmdline))
	pages.GET("/profile", gin.WrapF(pprof.Profile))
	pages.GET("/symbol", gin.WrapF(pprof.Symbol))
	pages.POST("/symbol", gin.WrapF(pprof.Symbol))
	pages.GET("/trace", gin.WrapF(pprof.Trace))
	pages.GET("/", gin.WrapF(pprof.Index))
	pages.GET("/:profile", gin.WrapF(pprof.Index))
}
