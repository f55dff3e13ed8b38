package hadoop

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// A Token is a delegation token as WebHDFS writes it: Hadoop's own binary form as base64. Its bearer, a driver in a container,
// is let into HDFS as who it was given for.
type Token string

// DelegationToken gets a token for the default file system, as a user, and says what it is filed under.
func DelegationToken(ctx context.Context, a *Access, c Conf, user, renewer string) (service string, t Token, err error) {
	if service, err = c.TokenService(ctx); err != nil {
		return "", "", fmt.Errorf("the NameNode's address: %w", err)
	}
	w := &WebHDFS{Access: a, Pages: c.NameNodePages, User: user}
	if t, err = w.Token(ctx, renewer, service); err != nil {
		return "", "", fmt.Errorf("a delegation token for %s: %w", user, err)
	}
	return service, t, nil
}

// Token gets a delegation token of the user's; service is what it is filed under. The kind has to be said, or the token is good
// for WebHDFS alone, and the ResourceManager cannot renew it.
func (w *WebHDFS) Token(ctx context.Context, renewer, service string) (Token, error) {
	var answer struct {
		Token struct {
			URLString Token `json:"urlString"`
		}
	}
	err := w.call(ctx, http.MethodGet, "/", url.Values{"op": {"GETDELEGATIONTOKEN"}, "renewer": {renewer}, "service": {service}, "kind": {"HDFS_DELEGATION_TOKEN"}}, &answer)
	if err == nil && answer.Token.URLString == "" {
		err = errors.New("the NameNode gives no delegation token")
	}
	return answer.Token.URLString, err
}

// Renew renews a token, which its renewer alone may do, and says until when it is good now.
func (w *WebHDFS) Renew(ctx context.Context, t Token) (time.Time, error) {
	var answer struct {
		Long int64 `json:"long"` // milliseconds since the epoch
	}
	err := w.call(ctx, http.MethodPut, "/", url.Values{"op": {"RENEWDELEGATIONTOKEN"}, "token": {string(t)}}, &answer)
	return time.UnixMilli(answer.Long), err
}

// Cancel ends a token; its renewer may do that, too.
func (w *WebHDFS) Cancel(ctx context.Context, t Token) error {
	return w.call(ctx, http.MethodPut, "/", url.Values{"op": {"CANCELDELEGATIONTOKEN"}, "token": {string(t)}}, nil)
}

// tokenMagic begins a token file: Hadoop's Credentials, in the form of its Writables.
const tokenMagic = "HDTS\x00"

// TokenFile is a file with one token, of which HADOOP_TOKEN_FILE_LOCATION tells a process. alias is the token's service.
func TokenFile(alias string, t Token) ([]byte, error) {
	data, err := t.bytes()
	if err != nil {
		return nil, err
	}
	if len(alias) > 127 { // longer ones have their length in another form
		return nil, fmt.Errorf("the name %s of a service is too long", alias)
	}
	out := append([]byte(tokenMagic), 1, byte(len(alias))) // one token
	out = append(out, alias...)
	out = append(out, data...)
	return append(out, 0), nil // and no other secrets
}

// ReadTokenFile reads what TokenFile has made.
func ReadTokenFile(file []byte) (Token, error) {
	begin := len(tokenMagic) + 2
	if len(file) <= begin || string(file[:len(tokenMagic)]) != tokenMagic || file[begin-2] != 1 {
		return "", errors.New("it is no file with one token")
	}
	if begin += int(file[begin-1]); begin >= len(file) {
		return "", errors.New("the file with the token is cut")
	}
	return Token(base64.RawURLEncoding.EncodeToString(file[begin : len(file)-1])), nil
}

func (t Token) bytes() ([]byte, error) {
	data, err := base64.RawURLEncoding.DecodeString(string(t))
	if err != nil {
		return nil, fmt.Errorf("the NameNode's token is no base64: %w", err)
	}
	return data, nil
}
